/** What a model that draws variations of images (unCLIP) takes: an image, or its embedding. */
import { copyTensor } from '../check.js'
import type { ExtraInput, Tensor } from '../types.js'

/** What the checks must know about such a model. */
export interface UnclipFacts {
  /** Numbers of an embedding. */
  width: number
  /** Whether it has an image encoder. */
  encodesImages: boolean
}

/**
 * The embeddings that were given: for all images of the run, or one for each.
 *
 * @throws {TypeError} not exactly one of `image` and `imageEmbeds`, or one that the model cannot use
 * @throws {RangeError} embeddings of another shape
 */
export function checkImageEmbeds(
  o: Record<string, unknown>,
  extraInput: ExtraInput,
  unclip: UnclipFacts | undefined,
  count: number,
): Tensor | undefined {
  if (extraInput !== 'embedded-image' || !unclip) {
    if (o.imageEmbeds !== undefined)
      throw new TypeError('Expected no imageEmbeds, as this model takes no embedding of an image')
    return undefined
  }
  if (o.image !== undefined && o.imageEmbeds !== undefined)
    throw new TypeError('Expected either image or imageEmbeds but received both')
  if (o.image !== undefined && !unclip.encodesImages)
    throw new TypeError(
      "Expected imageEmbeds in place of image, as the model's files have no image encoder: give one to load() as imageEncoder",
    )
  if (o.imageEmbeds === undefined) return undefined
  const tensor = copyTensor(o.imageEmbeds, 'imageEmbeds', [-1, unclip.width])
  if ([1, count].includes(tensor.shape[0])) return tensor
  throw new RangeError(
    `Expected shape [${count}, ${unclip.width}] for imageEmbeds but received [${tensor.shape}]`,
  )
}
