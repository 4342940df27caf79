/** What the options of images mean to a model whose UNet takes more than latents. */
import type { ExtraInput } from '../types.js'

/** What the UNet takes in this run, and options that were given but have no effect. */
export interface CheckedExtraInput {
  /** 'other' also where the caller gives extraChannels. */
  extraInput: ExtraInput
  withoutEffect: string[]
}

/** Models that work on an image as a whole: what they do with it. */
const WHOLE_IMAGE: Partial<Record<ExtraInput, string>> = {
  image: 'edits',
  'small-image': 'enlarges',
  'small-latents': 'enlarges',
  'embedded-image': 'varies',
}

/** Whether the image is where the steps start from, and not only something that the UNet sees. */
export function startsFromImage(extraInput: ExtraInput): boolean {
  return !(extraInput in WHOLE_IMAGE)
}

/** Whether the result shows the image itself, larger. */
export function enlargesImage(extraInput: ExtraInput): boolean {
  return WHOLE_IMAGE[extraInput] === 'enlarges'
}

/** Whether the image gets noise of `noiseLevel`. */
export function noisesImage(extraInput: ExtraInput): boolean {
  return extraInput === 'small-image' || extraInput === 'embedded-image'
}

/** Images for a question that does not depend on what they show. */
export function anyImages(extraInput: ExtraInput = 'none'): { image?: string; depth?: string } {
  if (extraInput === 'depth') return { depth: '' }
  return startsFromImage(extraInput) ? {} : { image: '' }
}

/**
 * @throws {TypeError} the model cannot do without an option that was not given, or has no use for one that would be
 *   expected to change the picture
 */
export function checkExtraInput(o: Record<string, unknown>, model: ExtraInput): CheckedExtraInput {
  // unCLIP's image is no channel.
  const given = o.extraChannels !== undefined && model !== 'embedded-image'
  const extraInput = given ? 'other' : model
  const withoutEffect: string[] = []
  const does = WHOLE_IMAGE[extraInput]
  if (does !== undefined) {
    if (o.image === undefined && o.imageEmbeds === undefined)
      throw new TypeError(`Expected image, as this model ${does} one`)
    if (o.mask !== undefined) throw new TypeError(`Expected no mask, as this model ${does} the whole image`)
    if (o.strength !== undefined) withoutEffect.push(`strength has no effect on a model that ${does} images`)
  }
  if (extraInput === 'depth' && o.depth === undefined)
    throw new TypeError('Expected depth, as this model draws by a depth map')
  if (extraInput !== 'depth' && o.depth !== undefined)
    throw new TypeError('Expected no depth, as this model takes no depth map')
  if (extraInput !== 'image' && o.imageGuidanceScale !== undefined)
    withoutEffect.push('imageGuidanceScale has no effect on a model that does not edit images')
  if (!noisesImage(extraInput) && o.noiseLevel !== undefined)
    withoutEffect.push('noiseLevel has no effect on a model that adds no noise to an image')
  return { extraInput, withoutEffect }
}
