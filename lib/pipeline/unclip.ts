/** The class embedding of a model that draws variations of images (Stable Diffusion 2.1 unCLIP). */
import type { Placement } from '../device/index.js'
import { usualUnclip } from '../models/families/unclip.js'
import type { UnclipDescription } from '../models/model-description.js'
import type { GenerateRequest } from '../options/index.js'
import type { BatchRandom } from '../random/index.js'
import { trainingSchedule } from '../schedulers/training-schedule.js'
import type { TimeSlice } from '../time-slice.js'
import type { Tensor } from '../types.js'
import type { CallOptions } from './component.js'
import type { Conditioning } from './conditioning.js'
import { ImageEncoder } from './image-encoder.js'
import { broadcastRows, stack, zeros } from './tensors.js'

/** What makes the class embedding of an image. */
export interface Unclip extends Omit<UnclipDescription, 'imageEncoder'> {
  /** Undefined: the embedding itself must be given. */
  imageEncoder?: ImageEncoder
}

/** @param description undefined: that of the published models, without an image encoder */
export async function loadUnclip(
  description: UnclipDescription = usualUnclip(),
  placement: Placement,
  options: CallOptions,
): Promise<Unclip> {
  const { imageEncoder, ...facts } = description
  if (!imageEncoder) return facts
  return { ...facts, imageEncoder: await ImageEncoder.from(imageEncoder, placement, options) }
}

/** The embeddings of the images that the request has, [1, width] or one row for each image of the batch. */
export async function embedImages(
  { imageEncoder }: Unclip,
  { image, imageEmbeds }: Pick<GenerateRequest, 'image' | 'imageEmbeds'>,
  options: CallOptions,
): Promise<Tensor> {
  if (imageEmbeds) return imageEmbeds
  const embeds = await imageEncoder!.encode(await imageEncoder!.preprocess(image!, options), options)
  await imageEncoder!.trim()
  return embeds
}

/** The period of the slowest sine of an embedded noise level. */
const MAX_PERIOD = 10_000

/**
 * The conditioning with the image as its class embedding; the unconditional half has zeros. As in diffusers, noise of
 * `noiseLevel` is drawn after the prompts are encoded, and before the latents are drawn.
 *
 * @param embeds [1, width], or one row for each image of the batch
 * @param request.guided whether the conditioning has an unconditional half
 */
export async function conditionOnImage(
  conditioning: Conditioning,
  embeds: Tensor,
  { schedule, statistics }: Unclip,
  request: Pick<GenerateRequest, 'count' | 'noiseLevel'> & { guided: boolean },
  random: BatchRandom,
  slice: TimeSlice,
): Promise<Conditioning> {
  const { count, noiseLevel, guided } = request
  const clean = broadcastRows(embeds, count)
  const width = clean.shape[1]
  const noise = await random.normalInSlices(clean.shape, slice)
  const alpha = trainingSchedule(schedule).alphasCumprod[noiseLevel]
  const [signal, level] = [Math.sqrt(alpha), Math.sqrt(1 - alpha)]
  const classes = zeros([count, 2 * width])
  for (let i = 0; i < count * width; i++) {
    const column = i % width
    const [mean, deviation] = statistics ? [statistics.mean[column], statistics.deviation[column]] : [0, 1]
    const normalized = (clean.data[i] - mean) / deviation
    const at = 2 * (i - column) + column
    classes.data[at] = (signal * normalized + level * noise.data[i]) * deviation + mean
    classes.data[at + width] = embedLevel(noiseLevel, column, width)
  }
  return { ...conditioning, classes: guided ? stack([zeros(classes.shape), classes]) : classes }
}

/** Number `i` of a noise level's sinusoidal embedding, cosines first; if the width is odd, the last one is 0. */
function embedLevel(noiseLevel: number, i: number, width: number): number {
  const half = Math.floor(width / 2)
  if (i >= 2 * half) return 0
  const angle = noiseLevel * Math.exp((-Math.log(MAX_PERIOD) * (i % half)) / half)
  return i < half ? Math.cos(angle) : Math.sin(angle)
}

/** A warning of noise that is not that of the training. */
export function unclipWarnings(
  unclip: Unclip | undefined,
  { noiseLevel }: Pick<GenerateRequest, 'noiseLevel'>,
): string[] {
  if (!unclip || unclip.statistics || noiseLevel === 0) return []
  return [
    "The model's files do not hold the mean and deviation of image embeddings: noise of noiseLevel is not as in the " +
      'training. A diffusers folder of the model has them',
  ]
}
