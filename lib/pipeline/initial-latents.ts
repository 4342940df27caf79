/**
 * The latents that a run starts from: pure noise, or those of an image with noise added; with a mask, for inpainting.
 */
import { checkTensor } from '../check.js'
import type { GenerateRequest } from '../options/index.js'
import type { LowResolution } from '../models/families/upscaler.js'
import type { BatchRandom } from '../random/index.js'
import { trainingSchedule } from '../schedulers/training-schedule.js'
import type { TimeSlice } from '../time-slice.js'
import type { Scheduler, Tensor } from '../types.js'
import type { AutoencoderKL, TiledCallOptions } from './autoencoder.js'
import { doubled } from './precondition.js'
import { AutoencoderTiny } from './tiny-autoencoder.js'
import { blend, broadcastRows, scale, zeros } from './tensors.js'

/** An image's latents, the noise that is added to them, and the mask outside which they are restored. */
export interface KeptImage {
  image: Tensor
  noise: Tensor
  mask: Tensor
}

/** The latents that the denoising loop starts from, and what belongs to them. */
export interface InitialLatents {
  latents: Tensor
  /** Index of the first timestep. */
  begin: number
  /**
   * For inpainting with a UNet that has no mask channels, or with such a refiner: the image outside the mask is restored
   * from these.
   */
  kept?: KeptImage
  /** Additional input channels of the UNet, which the scheduler does not scale. */
  extraChannels: Tensor[]
}

/** An image to start from, [n, 3, h, w] in −1…1 (or, to be enlarged, latents), and a mask [n, 1, h, w] of 0 and 1. */
export interface InitImage {
  image: Tensor
  mask?: Tensor
}

export interface LatentsInput {
  request: GenerateRequest
  scheduler: Scheduler
  random: BatchRandom
  vae: AutoencoderKL | AutoencoderTiny
  /** Of a model that enlarges images. */
  lowResolution?: LowResolution
  initImage?: InitImage
  /** Whether a refiner, whose UNet has no mask channels, takes over. */
  refines: boolean
  /** A depth map for the latents. */
  depth?: Tensor
  signal: AbortSignal
  slice: TimeSlice
}

/**
 * Index of the timestep at which image to image starts, as in diffusers' get_timesteps(). A second-order step has two
 * timesteps.
 */
export function firstTimestep(scheduler: Scheduler, steps: number, strength: number): number {
  return (steps - Math.min(Math.floor(steps * strength), steps)) * (scheduler.order ?? 1)
}

/**
 * The latents that the loop starts from. Random numbers are drawn in diffusers' order, so that a seed gives the same
 * image: first for the image's latents, then for the initial noise, then for the masked image's latents.
 */
export async function prepareLatents(input: LatentsInput): Promise<InitialLatents> {
  const { request, scheduler, random, vae, slice } = input
  const { count, width, height } = request
  const shape = [count, vae.config.latentChannels, height / vae.factor, width / vae.factor]
  const extraChannels = [request.extraChannels, input.depth].filter((given) => given !== undefined)
  const fromNoise = (noise: Tensor) => scale(noise, scheduler.initNoiseSigma)
  const givenNoise = request.latents && broadcastRows(request.latents, count)

  const drawNoise = async () => givenNoise ?? (await random.normalInSlices(shape, slice))
  const takesMask = request.extraInput === 'masked-image'
  const initImage = takesMask ? withMask(input.initImage, request) : input.initImage
  if (!initImage) return { latents: fromNoise(await drawNoise()), begin: 0, extraChannels }

  const { image, mask } = initImage
  if (request.extraInput === 'image') {
    // As in diffusers, the mode of the distribution, and not scaled.
    const { mean } = await momentsOf(vae, image, { signal: input.signal, tiling: request.vaeTiling })
    const latents = fromNoise(givenNoise ?? random.normal(shape))
    return { latents, begin: 0, extraChannels: [broadcastRows(mean, count)] }
  }
  const strength = input.initImage ? request.strength : 1
  if (request.extraInput === 'small-image') {
    const small = await addLowResolutionNoise(image, input)
    return { latents: fromNoise(await drawNoise()), begin: 0, extraChannels: [small] }
  }
  if (request.extraInput === 'small-latents') {
    const [h, w] = [shape[2] / 2, shape[3] / 2]
    const small =
      image.shape[1] === shape[1] ? image : await sampleLatents(input, image, [count, shape[1], h, w])
    return { latents: fromNoise(await drawNoise()), begin: 0, extraChannels: [doubled(small)] }
  }
  const begin = firstTimestep(scheduler, request.steps, strength)
  const untouched = begin >= scheduler.timesteps.length
  const pureNoise = mask !== undefined && (strength === 1 || givenNoise !== undefined)
  const needsImage = !pureNoise || !takesMask || untouched
  const clean = needsImage ? await sampleLatents(input, image, shape) : undefined
  const noise = await drawNoise()

  let latents: Tensor
  if (untouched) latents = clean!
  else if (pureNoise) latents = fromNoise(noise)
  else latents = addNoise(scheduler, clean!, noise, scheduler.timesteps[begin])

  if (mask) {
    const small = shrinkMask(mask, vae.factor)
    const hidden = await sampleLatents(input, hide(image, mask), shape)
    if (takesMask) extraChannels.unshift(small, hidden)
    if (!takesMask || (input.refines && input.initImage?.mask)) {
      const kept = { image: clean ?? (await sampleLatents(input, image, shape)), noise, mask: small }
      return { latents, begin, extraChannels, kept }
    }
  }
  return { latents, begin, extraChannels }
}

/** The image with the noise of request.noiseLevel, a timestep of its own schedule, for each image of the batch. */
async function addLowResolutionNoise(
  image: Tensor,
  { request, random, lowResolution, slice }: LatentsInput,
): Promise<Tensor> {
  const { alphasCumprod } = trainingSchedule(lowResolution!.schedule)
  const alpha = alphasCumprod[request.noiseLevel]
  const [signal, level] = [Math.sqrt(alpha), Math.sqrt(1 - alpha)]
  const clean = broadcastRows(image, request.count)
  const noised = await random.normalInSlices(clean.shape, slice)
  for (let i = 0; i < noised.data.length; i++)
    noised.data[i] = signal * clean.data[i] + level * noised.data[i]
  return noised
}

/**
 * What an inpainting UNet takes where a run has no mask, or not even an image: everything is painted anew, as web UIs
 * have it.
 */
function withMask(given: InitImage | undefined, { width, height }: GenerateRequest): InitImage {
  const image = given?.image ?? zeros([1, 3, height, width])
  const all = { data: new Float32Array(width * height).fill(1), shape: [1, 1, height, width] }
  return { image, mask: given?.mask ?? all }
}

/** scheduler.addNoise() with a check of its result, because anyone can write a scheduler. */
function addNoise(scheduler: Scheduler, latents: Tensor, noise: Tensor, timestep: number): Tensor {
  const noised = scheduler.addNoise(latents, noise, timestep)
  return checkTensor(noised, 'the result of scheduler.addNoise', latents.shape)
}

async function momentsOf(
  vae: AutoencoderKL | AutoencoderTiny,
  image: Tensor,
  options: TiledCallOptions,
): Promise<{ mean: Tensor; logvar?: Tensor }> {
  return vae instanceof AutoencoderTiny
    ? { mean: await vae.encode(image, options) }
    : vae.encode(image, options)
}

/** scalingFactor · (mean + deviation · noise): a sample of the encoder's distribution for each image of the batch. */
async function sampleLatents(
  { vae, random, request, signal, slice }: LatentsInput,
  image: Tensor,
  shape: number[],
) {
  const { mean, logvar } = await momentsOf(vae, image, { signal, tiling: request.vaeTiling })
  // A tiny autoencoder's encoder gives the latents themselves, and diffusers draws no noise for them.
  if (!logvar) return broadcastRows(mean, shape[0])
  const [m, v] = [broadcastRows(mean, shape[0]).data, broadcastRows(logvar, shape[0]).data]
  const latents = await random.normalInSlices(shape, slice)
  for (let i = 0; i < m.length; i++) {
    // The bounds are those of diffusers' DiagonalGaussianDistribution.
    const deviation = Math.exp(0.5 * Math.min(Math.max(v[i], -30), 20))
    latents.data[i] = vae.scalingFactor * (m[i] + deviation * latents.data[i])
    if (i % 65536 === 65535) await slice.pause()
  }
  return latents
}

/** The image with the masked part grey (0). */
function hide(image: Tensor, mask: Tensor): Tensor {
  return blend(image, zeros(image.shape), mask)
}

/**
 * One mask value for each latent: that of its upper left pixel, as in torch's nearest interpolation. A stroke that is
 * narrower than a latent can lie between those pixels. So a latent with part of a stroke is also selected if otherwise
 * neither it nor a neighbour would be.
 */
function shrinkMask(mask: Tensor, factor: number): Tensor {
  const [n, , height, width] = mask.shape
  const [h, w] = [height / factor, width / factor]
  const nearest = zeros([n, 1, h, w])
  const touched = zeros([n, 1, h, w])
  for (let i = 0; i < n; i++) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        if (mask.data[(i * height + y) * width + x] === 0) continue
        const at = (i * h + Math.floor(y / factor)) * w + Math.floor(x / factor)
        touched.data[at] = 1
        if (y % factor === 0 && x % factor === 0) nearest.data[at] = 1
      }
    }
  }
  const out = { data: nearest.data.slice(), shape: nearest.shape }
  for (let row = 0; row < n * h; row++) {
    const first = row - (row % h)
    for (let x = 0; x < w; x++) {
      const lost = touched.data[row * w + x] === 1 && !hasNeighbour(nearest.data, w, row, first, first + h, x)
      if (lost) out.data[row * w + x] = 1
    }
  }
  return out
}

/** Whether any value of the 3×3 around (row, x) is set. */
function hasNeighbour(
  data: Float32Array,
  w: number,
  row: number,
  first: number,
  end: number,
  x: number,
): boolean {
  for (let r = Math.max(row - 1, first); r < Math.min(row + 2, end); r++)
    for (let c = Math.max(x - 1, 0); c < Math.min(x + 2, w); c++) if (data[r * w + c] === 1) return true
  return false
}

/** The latents after the step at `index`, with the image at the same noise level outside the mask. */
export function keepOutsideMask(
  { image, noise, mask }: KeptImage,
  latents: Tensor,
  scheduler: Scheduler,
  index: number,
): Tensor {
  const last = index + 1 >= scheduler.timesteps.length
  const outside = last ? image : addNoise(scheduler, image, noise, scheduler.timesteps[index + 1])
  return blend(outside, latents, mask)
}
