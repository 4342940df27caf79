/** The text about an image's parameters that Stable Diffusion web UIs write into files and read back. */

/** The parameters that an image was generated with. All but the prompt may be missing. */
export interface ImageMetadata {
  prompt: string
  negativePrompt?: string
  steps?: number
  scheduler?: string
  guidanceScale?: number
  seed?: number | bigint
  width?: number
  height?: number
  model?: string
  /** Image to image: how much was changed, 0…1. */
  strength?: number
  /** Layers of the text encoder that were left out. Web UIs count the last layer too, so a file says one more. */
  clipSkip?: number
  guidanceRescale?: number
  eta?: number
  /** The source of the noise: 'torch' or 'philox', which web UIs call CPU and NV. */
  rng?: string
  /** Further entries, written as they are. */
  extra?: Record<string, string | number>
}

/** The names of our schedulers in web UIs. */
const SAMPLERS: Record<string, string> = {
  ddim: 'DDIM',
  ddpm: 'DDPM',
  plms: 'PLMS',
  pndm: 'PLMS',
  euler: 'Euler',
  'euler-a': 'Euler a',
  'euler-ancestral': 'Euler a',
  heun: 'Heun',
  lms: 'LMS',
  dpm2: 'DPM2',
  'dpm2-a': 'DPM2 a',
  'dpm2-ancestral': 'DPM2 a',
  'dpm++-2m': 'DPM++ 2M',
  'dpm++-2m-sde': 'DPM++ 2M SDE',
  'dpm++-2s': 'DPM++ 2S',
  'dpm++-2s-a': 'DPM++ 2S a',
  'dpm++-2s-sde': 'DPM++ 2S SDE',
  'dpm++-sde': 'DPM++ SDE',
  unipc: 'UniPC',
  deis: 'DEIS',
  lcm: 'LCM',
  tcd: 'TCD',
}

/** The names of our generators of noise in web UIs (AUTOMATIC1111, setting "Random number generator source"). */
const GENERATORS: Record<string, string> = { torch: 'CPU', philox: 'NV' }

/**
 * `prompt`, `Negative prompt: …`, and one line `Steps: 20, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 512x512, …`.
 */
export function formatParameters(metadata: ImageMetadata): string {
  const [, base, spacing] = /^(.*?)(?:-(karras|exponential|beta))?$/s.exec(metadata.scheduler ?? '')!
  const { width, height } = metadata
  const settings: [string, string | number | bigint | undefined][] = [
    ['Steps', metadata.steps],
    ['Sampler', SAMPLERS[base] ?? (metadata.scheduler === undefined ? undefined : base)],
    ['Schedule type', spacing && spacing[0].toUpperCase() + spacing.slice(1)],
    ['CFG scale', metadata.guidanceScale],
    ['Seed', metadata.seed],
    ['Size', width !== undefined && height !== undefined ? `${width}x${height}` : undefined],
    ['Model', metadata.model],
    ['Denoising strength', metadata.strength],
    ['Clip skip', metadata.clipSkip ? metadata.clipSkip + 1 : undefined],
    ['CFG Rescale', metadata.guidanceRescale],
    ['Eta', metadata.eta],
    ['RNG', metadata.rng === undefined ? undefined : (GENERATORS[metadata.rng] ?? metadata.rng)],
    ...Object.entries(metadata.extra ?? {}),
  ]
  const line = settings
    .filter(([, value]) => value !== undefined && value !== '')
    .map(([name, value]) => `${name}: ${quote(value!)}`)
  const lines = [metadata.prompt]
  if (metadata.negativePrompt) lines.push(`Negative prompt: ${metadata.negativePrompt}`)
  if (line.length > 0) lines.push(line.join(', '))
  return lines.join('\n')
}

/** Puts values that could be taken for further settings in quotes, as web UIs do. */
function quote(value: string | number | bigint): string {
  const text = String(value)
  return /[,:\n"]/.test(text) ? JSON.stringify(text) : text
}

/** Parses such a text. The settings have the names of the web UIs. */
export function parseParameters(text: string): {
  prompt: string
  negativePrompt: string
  settings: Record<string, string>
} {
  const lines = text.split('\n')
  const settings: Record<string, string> = {}
  if (/^Steps: /.test(lines.at(-1)!)) {
    for (const [, name, value] of lines.pop()!.matchAll(/([\w+ -]+): *("(?:\\.|[^"\\])*"|[^,]*)(?:, *|$)/g)) {
      settings[name] = value.startsWith('"') ? unquote(value) : value
    }
  }
  const at = lines.findIndex((line) => line.startsWith('Negative prompt: '))
  if (at < 0) return { prompt: lines.join('\n'), negativePrompt: '', settings }
  const negativePrompt = lines.slice(at).join('\n').slice('Negative prompt: '.length)
  return { prompt: lines.slice(0, at).join('\n'), negativePrompt, settings }
}

/** Other programs' files may hold quotes that are no JSON. */
function unquote(value: string): string {
  try {
    return JSON.parse(value) as string
  } catch {
    return value
  }
}
