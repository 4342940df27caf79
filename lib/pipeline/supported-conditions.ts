import { isArray } from '../check.js'
import { DiffusionError } from '../errors.js'
import { extraInputOf } from '../models/families/extra-input.js'
import { NOISE_LEVEL_WIDTH, pooledTextWidth } from '../models/families/latent-upscaler.js'
import { imageEmbeddingWidth } from '../models/families/unclip.js'
import type { ModelDescription } from '../models/index.js'
import type { TimeIdCount } from './time-ids.js'

/** Width of the pooled output that the last text encoder with a projection gives, or that the UNet leaves room for. */
export function pooledWidthOf({ unet, textEncoders }: ModelDescription): number | undefined {
  const { added, kBlocks } = unet?.config ?? {}
  if (kBlocks) return pooledTextWidth(kBlocks, textEncoders.at(-1)?.config)
  if (added && textEncoders.length === 0) return added.width - 6 * added.timeWidth
  return textEncoders.findLast(({ config }) => config.projectionWidth !== undefined)?.config.projectionWidth
}

/** How many numbers the UNet takes beside the pooled text: what its width leaves for them. */
export function timeIdCountOf(description: ModelDescription): TimeIdCount | undefined {
  const added = description.unet?.config.added
  if (!added) return undefined
  // The embeddings that a caller gives are taken to be the base model's.
  if (description.textEncoders.length === 0) return 6
  const count = (added.width - (pooledWidthOf(description) ?? 0)) / added.timeWidth
  return count === 5 || count === 6 ? count : undefined
}

/** Throws if the image's embeddings are not those that the UNet takes. */
function checkUnclip({ unet, unclip }: ModelDescription, fail: (message: string) => Error): void {
  const width = imageEmbeddingWidth(unet?.config)
  if (width === undefined) throw fail('expected a class embedding of an even width, found an odd one')
  const found = unclip?.imageEncoder?.config.projectionWidth ?? width
  if (found !== width)
    throw fail(`expected an image encoder of embeddings of ${width} numbers, found ${found}`)
  const { mean = [], deviation = [] } = unclip?.statistics ?? {}
  if (unclip?.statistics && (mean.length !== width || deviation.length !== width))
    throw fail(
      `expected a mean and a deviation of ${width} numbers of image embeddings, found ${mean.length} and ${deviation.length}`,
    )
}

/** Throws if the UNet of a ×2 latent upscaler does not go with the autoencoder and the text encoder. */
function checkLatentUpscaler(
  description: ModelDescription,
  latentChannels: number,
  fail: (message: string) => Error,
): void {
  const { inChannels, outChannels, kBlocks } = description.unet!.config
  if (inChannels !== 2 * latentChannels || outChannels !== latentChannels + 1)
    throw fail(
      `expected a UNet of ${2 * latentChannels} input and ${latentChannels + 1} output channels, found ${inChannels} and ` +
        `${outChannels}`,
    )
  const pooled = pooledWidthOf(description)!
  const noiseLevel = kBlocks!.conditionWidth - pooled
  if (noiseLevel < 2 || noiseLevel % 2 !== 0)
    throw fail(
      `expected a text encoder of a width of ${kBlocks!.conditionWidth - NOISE_LEVEL_WIDTH}, found ${pooled}`,
    )
}

/** Throws if a model is given what guides or refines others but cannot guide a UNet with K-blocks. */
export function checkCompanions(
  { path, unet }: ModelDescription,
  given: { controlNets: readonly unknown[]; ipAdapters: readonly unknown[]; refiner?: unknown },
): void {
  if (!unet?.config.kBlocks) return
  for (const [key, value] of Object.entries(given)) {
    if (value === undefined || (isArray(value) && value.length === 0)) continue
    throw new DiffusionError(
      'UNSUPPORTED_MODEL',
      `${path}: expected no ${key} with this model, as the ×2 latent upscaler's UNet takes none`,
    )
  }
}

/** Throws if the text encoders of a model do not give what its UNet is conditioned on. */
export function checkConditions(description: ModelDescription): void {
  const { path, unet, textEncoders } = description
  const vae = description.vae ?? description.tinyVae
  if (!unet) return
  const { added, classEmbedding, contextWidth, kBlocks } = unet.config
  const fail = (message: string) => new DiffusionError('UNSUPPORTED_MODEL', `${path}: ${message}`)
  const extraInput = vae && extraInputOf(unet.config, vae.config.latentChannels)
  if (extraInput === 'embedded-image') checkUnclip(description, fail)
  else if (classEmbedding && extraInput !== 'small-image')
    throw fail('UNets with this class embedding are supported as components only: pipe.unet.predict()')
  if (kBlocks && vae) checkLatentUpscaler(description, vae.config.latentChannels, fail)
  if (textEncoders.length === 0) return
  const widths = textEncoders.map(({ config }) => config.width)
  if (widths.reduce((sum, width) => sum + width, 0) !== contextWidth) {
    throw fail(`expected text encoders of a width of ${contextWidth} together, found ${widths.join(' + ')}`)
  }
  if (added && timeIdCountOf(description) === undefined) {
    throw fail(
      `expected a text encoder with a projection of ${added.width - 6 * added.timeWidth} (or, for a refiner, ` +
        `${added.width - 5 * added.timeWidth}) values, found ${pooledWidthOf(description) ?? 'none'}`,
    )
  }
}
