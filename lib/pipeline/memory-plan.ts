import type { GenerateRequest } from '../options.js'
import type { AutoencoderKL } from './autoencoder.js'
import { isGuided } from './prompt.js'
import type { TextEncoder } from './text-encoder.js'
import type { AutoencoderTiny } from './tiny-autoencoder.js'
import type { Unet } from './unet.js'

/** Bytes that a run takes at its peak. */
export interface MemoryNeeded {
  /** Weights, already in memory. */
  weights: number
  /** Working memory of the run, freed after it. */
  working: number
  total: number
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
export function workingMemory(
  parts: { textEncoder?: TextEncoder; unet: Unet; vae: AutoencoderKL; tinyVae?: AutoencoderTiny },
  request: Size,
  contextLength: number,
): MemoryNeeded {
  const { unet, vae, tinyVae, textEncoder } = parts
  const { width, height, count, vaeTiling, tokenMerging, deepCache } = request
  const [h, w] = [height / vae.factor, width / vae.factor]
  const batch = isGuided(request as GenerateRequest) ? 2 * count : count
  const pixels = 3 * width * height
  const tiny = tinyVae ? tinyVae.decodeBytes(h, w, vaeTiling) + 4 * pixels : 0
  const predict = unet.workingBytes(batch, h, w, contextLength, { tokenMerging, depth: deepCache?.depth })
  // Previews are made between the UNet's calls, which keeps its memory.
  const denoise = predict + tiny
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
