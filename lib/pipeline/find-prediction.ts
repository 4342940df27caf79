/** What Stable Diffusion 2's UNet predicts, where its file does not say it. */
import type { ModelDescription } from '../models/index.js'
import type { PredictionType, Tensor } from '../types.js'
import type { Unet } from './unet.js'

/**
 * The test of AUTOMATIC1111's web UI and of stable-diffusion.cpp: where everything is noise, the noise is the input itself,
 * and the velocity is about minus the image. Each number of latents and context is VALUE; if output minus input is less
 * than MAX_VELOCITY on average, the UNet predicts the velocity.
 */
const SIDE = 8
const CONTEXT_LENGTH = 2
const VALUE = 0.5
const TIMESTEP = 999
const MAX_VELOCITY = -1

/**
 * Predicts once and adapts the description: the schedule, the image size that follows from it, and a warning. It takes as
 * long as the smallest prediction, in which every weight is read once.
 */
export async function findPrediction(
  description: ModelDescription,
  unet: Unet,
  signal: AbortSignal | undefined,
): Promise<void> {
  const constant = (...shape: number[]): Tensor => ({
    data: new Float32Array(shape.reduce((product, length) => product * length, 1)).fill(VALUE),
    shape,
  })
  const { inChannels, contextWidth } = unet.config
  const { data } = await unet.predict(
    {
      latents: constant(1, inChannels, SIDE, SIDE),
      timestep: TIMESTEP,
      context: constant(1, CONTEXT_LENGTH, contextWidth),
    },
    { signal },
  )
  await unet.trim()
  const difference = data.reduce((sum, value) => sum + value - VALUE, 0) / data.length
  // NaN decides nothing: the assumption stays.
  if (Number.isFinite(difference))
    setPrediction(description, difference < MAX_VELOCITY ? 'v_prediction' : 'epsilon')
  const { predictionType } = description.schedule
  const found = predictionType === 'epsilon' ? 'the noise (epsilon)' : 'the velocity (v_prediction)'
  description.warnings = [
    ...(description.warnings ?? []),
    `The file does not say what the UNet predicts: by a test output it is ${found}. If pictures are wrong, give predictionType`,
  ]
}

/** Sets what the UNet predicts, and the image size if that was assumed from it. */
export function setPrediction(description: ModelDescription, predictionType: PredictionType): void {
  description.schedule = { ...description.schedule, predictionType }
  if (description.assumedPrediction && predictionType !== 'sample')
    description.imageSize = description.assumedPrediction.imageSizes[predictionType]
  delete description.assumedPrediction
}
