/** Input images and the sizes of images. */
import { types } from 'node:util'
import { checkInteger, copyBytes, copyTensor, expectation, isReadable } from '../check.js'
import { Image, type ImageSource } from '../image/index.js'
import type { Tensor } from '../types.js'

/** An input image: a path, a data: URL, the bytes of an encoded image, an Image, or a tensor [n, 3, h, w] in −1…1. */
export type ImageInput = ImageSource | Tensor

/** Maximum width and height in pixels. Whether an image fits into memory is checked separately. */
export const maxSide = 2 ** 20

export function checkSide(value: unknown, path: string, factor: number): number {
  const side = checkInteger(value, path, factor, maxSide)
  if (side % factor !== 0) throw new RangeError(expectation(`multiple of ${factor}`, path, value))
  return side
}

export function copyImage(value: unknown, path: string): ImageInput {
  if (typeof value === 'string') return value
  if (types.isUint8Array(value)) return copyBytes(value)
  if (isReadable(value) && value instanceof Image) {
    const { width, height, data } = value
    return new Image(width, height, copyBytes(data))
  }
  if (isReadable(value) && 'shape' in value) return copyTensor(value, path, [-1, -1, -1, -1])
  throw new TypeError(
    expectation('path, data: URL, encoded image (Uint8Array), Image or tensor', path, value),
  )
}
