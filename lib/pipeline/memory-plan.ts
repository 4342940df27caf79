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
export function chooseStreams(
  parts: {
    textEncoder?: { source: ModelSource }
    unet: { source: ModelSource }
    vae: { source: ModelSource }
  },
  lowMemory: boolean | undefined,
): { frugal: boolean } {
  const { textEncoder, unet, vae } = parts
  const quantized = unet.source.tensors.some(({ type }) => !FLOATS.includes(type))
  const choose = (automatic: Residency): Residency =>
    lowMemory === undefined ? automatic : lowMemory ? 'none' : 'all'
  unet.source.residency = choose('per-step')
  for (const part of [vae, textEncoder]) if (part) part.source.residency = choose(quantized ? 'none' : 'per-step')
  return { frugal: lowMemory ?? quantized }
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
interface Sized {
  textEncoder?: TextEncoder
  unet: Unet
  vae: AutoencoderKL
  tinyVae?: AutoencoderTiny
  /** Weights give way to memory, see chooseStreams: so does the autoencoder's work. */
  frugal: boolean
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
export function workingMemory(parts: Sized, request: Size, contextLength: number): MemoryNeeded {
  const { unet, vae, tinyVae, textEncoder } = parts
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
  const weights =
    unet.weightBytes + vae.weightBytes + (textEncoder?.weightBytes ?? 0) + (tinyVae?.weightBytes ?? 0)
  return { weights, working, total: weights + working }
}

function denoiseBytes({ unet, vae }: Sized, request: Size, contextLength: number): number {
  const { width, height, count, tokenMerging, deepCache } = request
  const batch = isGuided(request as GenerateRequest) ? 2 * count : count
  const [h, w] = [height / vae.factor, width / vae.factor]
  return unet.workingBytes(batch, h, w, contextLength, { tokenMerging, depth: deepCache?.depth })
}

/**
 * How the autoencoder works in a run that does not say it: where memory counts, in bands that need no more than denoising
 * does.
 */
export function tilingOf(parts: Sized, request: Size, contextLength: number): TilingOption | undefined {
  if (request.vaeTiling !== undefined || !parts.frugal) return request.vaeTiling
  const { width, height, count } = request
  const pictures = (4 + count) * 3 * width * height
  return { bytes: Math.max(denoiseBytes(parts, request, contextLength) - pictures, 0) }
}
