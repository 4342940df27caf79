import type { UnetConfig } from '../../native.js'
import type { UnclipDescription } from '../model-description.js'
import { defaultSchedule } from './schedule.js'

/**
 * unCLIP for Stable Diffusion 2.1 (Stability AI, after Ramesh et al. 2022): a UNet whose class embedding takes an image's
 * embedding, to which noise was added, and behind it that noise's level, embedded in as many numbers.
 */

/** Numbers of an image's embedding; undefined: the UNet does not take one. */
export function imageEmbeddingWidth(
  unet: Pick<UnetConfig, 'classEmbedding'> | undefined,
): number | undefined {
  const embedding = unet?.classEmbedding
  return embedding?.kind === 'projection' && embedding.width % 2 === 0 ? embedding.width / 2 : undefined
}

/** What is known of the published models where a file does not say it. */
export const usualUnclip = (): UnclipDescription => ({
  schedule: {
    ...defaultSchedule(),
    betaStart: 0.0001,
    betaEnd: 0.02,
    betaSchedule: 'squaredcos_cap_v2',
    className: 'DDPMScheduler',
  },
})

/** An UnclipDescription without the image encoder's weights. */
export type UnclipFacts = Omit<UnclipDescription, 'imageEncoder'> & {
  imageEncoder?: Omit<NonNullable<UnclipDescription['imageEncoder']>, 'source'>
}
