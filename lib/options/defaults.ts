/** The defaults of generate(). */
export const defaults = {
  negativePrompt: '',
  steps: 25,
  guidanceScale: 7.5,
  guidanceRescale: 0,
  rng: 'torch',
  batchSize: 1,
  clipSkip: 0,
  weighting: true,
  strength: 0.8,
  inpaintStrength: 1,
  outputType: 'image',
} as const
