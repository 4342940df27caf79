/** Where a run starts: from pure noise, from an image with noise on it, or from an image of which a part is painted anew. */
import type { GenerateRequest } from '../options.js'
import type { Random, Scheduler, Tensor } from '../types.js'
import type { AutoencoderKL } from './autoencoder.js'
import { blend, broadcastRows, scale, zeros } from './tensors.js'

/** A run's first latents and what goes with them. */
export interface Start {
  latents: Tensor
  /** Index of the first timestep to be used. */
  begin: number
  /** Inpainting with a UNet that knows no masks: what keeps the rest of the image as it is. */
  kept?: { image: Tensor; noise: Tensor; mask: Tensor }
  /** Further input channels for the UNet, not scaled by the scheduler. */
  extraChannels: Tensor[]
}

/** Pixels of the image and mask that a run starts from: [n, 3, h, w] in −1…1, [n, 1, h, w] of 0 and 1. */
export interface Picture {
  image: Tensor
  mask?: Tensor
}

export interface LatentsInput {
  request: GenerateRequest
  scheduler: Scheduler
  random: Random
  vae: AutoencoderKL
  /** The UNet has channels for a mask and the masked image. */
  masksItself: boolean
  picture?: Picture
  signal: AbortSignal
}

/** Steps that image-to-image leaves out: as diffusers' get_timesteps. Methods of order 2 have two timesteps a step. */
export function firstTimestep(scheduler: Scheduler, steps: number, strength: number): number {
  return (steps - Math.min(Math.floor(steps * strength), steps)) * (scheduler.order ?? 1)
}

/**
 * The latents that the loop begins with. Random numbers are drawn in diffusers' order, so that a seed gives its picture:
 * sample of the image's latents, noise, sample of the masked image's latents.
 */
export async function prepareLatents(input: LatentsInput): Promise<Start> {
  const { request, scheduler, random, vae, picture, masksItself } = input
  const { count, width, height } = request
  const shape = [count, vae.config.latentChannels, height / vae.factor, width / vae.factor]
  const extraChannels = request.extraChannels ? [request.extraChannels] : []
  const fromNoise = (noise: Tensor) => scale(noise, scheduler.initNoiseSigma)
  const givenNoise = request.latents && broadcastRows(request.latents, count)

  if (!picture) return { latents: fromNoise(givenNoise ?? random.normal(shape)), begin: 0, extraChannels }

  const { image, mask } = picture
  const begin = firstTimestep(scheduler, request.steps, request.strength)
  const untouched = begin >= scheduler.timesteps.length
  const pureNoise = mask !== undefined && (request.strength === 1 || givenNoise !== undefined)
  const needsImage = !pureNoise || !masksItself || untouched
  const clean = needsImage ? await sampleLatents(input, image, shape) : undefined
  const noise = givenNoise ?? random.normal(shape)

  let latents: Tensor
  if (untouched) latents = clean!
  else if (pureNoise) latents = fromNoise(noise)
  else latents = scheduler.addNoise(clean!, noise, scheduler.timesteps[begin])

  if (mask) {
    const small = shrinkMask(mask, vae.factor)
    const hidden = await sampleLatents(input, hide(image, mask), shape)
    if (masksItself) extraChannels.unshift(small, hidden)
    else return { latents, begin, extraChannels, kept: { image: clean!, noise, mask: small } }
  }
  return { latents, begin, extraChannels }
}

/** scaling · (mean + deviation · noise): a sample of the encoder's distribution for each image of the batch. */
async function sampleLatents({ vae, random, request, signal }: LatentsInput, image: Tensor, shape: number[]) {
  const { mean, logvar } = await vae.encode(image, { signal, tiling: request.vaeTiling })
  const [m, v] = [broadcastRows(mean, shape[0]).data, broadcastRows(logvar, shape[0]).data]
  const latents = random.normal(shape)
  for (let i = 0; i < m.length; i++) {
    // The bounds are those of diffusers' DiagonalGaussianDistribution.
    const deviation = Math.exp(0.5 * Math.min(Math.max(v[i], -30), 20))
    latents.data[i] = vae.scalingFactor * (m[i] + deviation * latents.data[i])
  }
  return latents
}

/** The image with the mask's part grey (0). */
function hide(image: Tensor, mask: Tensor): Tensor {
  return blend(image, zeros(image.shape), mask)
}

/** One mask value for each latent: the upper left pixel's, as torch's nearest interpolation. */
function shrinkMask(mask: Tensor, factor: number): Tensor {
  const [n, , h, w] = mask.shape
  const out = zeros([n, 1, h / factor, w / factor])
  let at = 0
  for (let i = 0; i < n; i++) {
    for (let y = 0; y < h; y += factor) {
      for (let x = 0; x < w; x += factor) out.data[at++] = mask.data[(i * h + y) * w + x]
    }
  }
  return out
}

/** After a step at `index`: outside the mask, the image with as much noise as the latents have now. */
export function keepOutsideMask(
  { image, noise, mask }: NonNullable<Start['kept']>,
  latents: Tensor,
  scheduler: Scheduler,
  index: number,
): Tensor {
  const last = index + 1 >= scheduler.timesteps.length
  const outside = last ? image : scheduler.addNoise(image, noise, scheduler.timesteps[index + 1])
  return blend(outside, latents, mask)
}
