import type { UnetConfig } from '../../native.js'
import type { ExtraInput } from '../../types.js'

/** Colours of the small image. */
const RGB = 3

/**
 * What the UNet takes of images beside the latents. Published models differ in the number of their channels, but the
 * image of unCLIP comes as a class embedding.
 */
export function extraInputOf(
  { inChannels, classEmbedding, kBlocks }: Pick<UnetConfig, 'inChannels' | 'classEmbedding' | 'kBlocks'>,
  latentChannels: number,
): ExtraInput {
  const extra = inChannels - latentChannels
  if (kBlocks && extra === latentChannels) return 'small-latents'
  if (extra === 0) return classEmbedding?.kind === 'projection' ? 'embedded-image' : 'none'
  if (extra === RGB && classEmbedding?.kind === 'table') return 'small-image'
  if (extra === latentChannels + 1) return 'masked-image'
  if (extra === latentChannels) return 'image'
  return extra === 1 ? 'depth' : 'other'
}
