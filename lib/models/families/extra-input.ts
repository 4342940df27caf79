import type { UnetConfig } from '../../native.js'
import type { ExtraInput } from '../../types.js'

/** Colours of the small image. */
const RGB = 3

/** What the channels beyond the latents are for: published models differ in their number. */
export function extraInputOf(
  { inChannels, classEmbedding }: Pick<UnetConfig, 'inChannels' | 'classEmbedding'>,
  latentChannels: number,
): ExtraInput {
  const extra = inChannels - latentChannels
  if (extra === 0) return 'none'
  if (extra === RGB && classEmbedding?.kind === 'table') return 'small-image'
  if (extra === latentChannels + 1) return 'masked-image'
  if (extra === latentChannels) return 'image'
  return extra === 1 ? 'depth' : 'other'
}
