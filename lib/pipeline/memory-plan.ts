import type { ModelSource, Residency, TensorType } from '../native.js'
import type { GenerateRequest } from '../options.js'
import type { AutoencoderKL } from './autoencoder.js'
import { isGuided } from './prompt.js'
import type { TextEncoder } from './text-encoder.js'
import type { AutoencoderTiny } from './tiny-autoencoder.js'
import type { TilingOption } from '../tiling.js'
import type { Unet } from './unet.js'

const FLOATS: readonly TensorType[] = ['f32', 'f16', 'bf16']

/**
 * Says of each part which of its weights are read from its files when they are needed: `lowMemory` of LoadOptions. A
 * picture takes a quantized model's UNet tens of passes and the rest one, and reading a matrix costs as much as a hundred
 * rows multiplied with it: what the rest takes of memory shows more than what reading it takes of time.
 *
 * @returns whether memory counts for more than time
 */
export function chooseResidency(
  parts: {
    textEncoders: readonly { source: ModelSource }[]
    unet: { source: ModelSource }
    vae: { source: ModelSource }
  },
  lowMemory: boolean | undefined,
): { savesMemory: boolean } {
  const { textEncoders, unet, vae } = parts
  const quantized = unet.source.tensors.some(({ type }) => !FLOATS.includes(type))
  const choose = (automatic: Residency): Residency =>
    lowMemory === undefined ? automatic : lowMemory ? 'none' : 'all'
  unet.source.residency = choose('per-step')
  for (const part of [vae, ...textEncoders]) part.source.residency = choose(quantized ? 'none' : 'per-step')
  return { savesMemory: lowMemory ?? quantized }
}

/** Bytes that a run takes at its peak. */
export interface MemoryNeeded {
  /** Weights, already in memory. */
  weights: number
  /** Working memory of the run, freed after it. */
  working: number
  total: number
}

/** What of a model is asked how much memory it takes. */
interface SizedParts {
  textEncoders: readonly TextEncoder[]
  unet: Unet
  vae: AutoencoderKL
  tinyVae?: AutoencoderTiny
  /** Weights give way to memory, see chooseResidency: so does the autoencoder's work. */
  savesMemory: boolean
}

type Size = Pick<
  GenerateRequest,
  | 'count'
  | 'width'
  | 'height'
  | 'guidanceScale'
  | 'vaeTiling'
  | 'image'
  | 'outputType'
  | 'decoder'
  | 'deepCache'
  | 'tokenMerging'
>

/**
 * Peak memory of a run, computed without allocating anything: the UNet and the autoencoder work one after the other, and
 * each gives its memory back before the next begins.
 */
export function workingMemory(parts: SizedParts, request: Size, contextLength: number): MemoryNeeded {
  const { unet, vae, tinyVae, textEncoders } = parts
  const { width, height, count } = request
  const [h, w] = [height / vae.factor, width / vae.factor]
  const batch = isGuided(request as GenerateRequest) ? 2 * count : count
  const pixels = 3 * width * height
  const vaeTiling = tilingOf(parts, request, contextLength)
  const tiny = tinyVae ? tinyVae.decodeBytes(h, w, vaeTiling) + 4 * pixels : 0
  // Previews are made between the UNet's calls, which keeps its memory.
  const denoise = denoiseBytes(parts, request, contextLength) + tiny
  const encode = request.image === undefined ? 0 : vae.encodeBytes(h, w, vaeTiling) + 4 * pixels
  // One image at a time as floats, and all of them as bytes.
  const decode =
    request.outputType === 'latents'
      ? 0
      : (request.decoder === 'tiny' ? tiny : vae.decodeBytes(h, w, vaeTiling) + 4 * pixels) + count * pixels
  // A handful of copies of the latents live in the scheduler and between the calls.
  const latents = 8 * batch * unet.config.inChannels * h * w * 4
  const context = 2 * batch * contextLength * unet.config.contextWidth * 4
  const working = Math.max(denoise, encode, decode) + latents + context
  const weights = [unet, vae, tinyVae, ...textEncoders].reduce(
    (sum, part) => sum + (part?.weightBytes ?? 0),
    0,
  )
  return { weights, working, total: weights + working }
}

function denoiseBytes({ unet, vae }: SizedParts, request: Size, contextLength: number): number {
  const { width, height, count, tokenMerging, deepCache } = request
  const batch = isGuided(request as GenerateRequest) ? 2 * count : count
  const [h, w] = [height / vae.factor, width / vae.factor]
  return unet.workingBytes(batch, h, w, contextLength, { tokenMerging, depth: deepCache?.depth })
}

/**
 * How the autoencoder works in a run that does not say it: where memory counts, in bands that need no more than denoising
 * does.
 */
export function tilingOf(parts: SizedParts, request: Size, contextLength: number): TilingOption | undefined {
  if (request.vaeTiling !== undefined || !parts.savesMemory) return request.vaeTiling
  const { width, height, count } = request
  const pictures = (4 + count) * 3 * width * height
  return { bytes: Math.max(denoiseBytes(parts, request, contextLength) - pictures, 0) }
}
