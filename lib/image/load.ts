/** Images as tensors. */
import { checkInteger, checkObject, checkSignal } from '../check.js'
import { requireMemory } from '../memory.js'
import { TimeSlice } from '../time-slice.js'
import type { Tensor } from '../types.js'
import { openImage, type ImageSize, type OpenedImage, type Pixels } from './decode.js'
import { Image } from './image.js'
import { convertRows, planesOf, separateRows } from './planes.js'
import type { ImageSource } from './source.js'

/** Maximum width and height to which an image is resized. */
const MAX_SIDE = 2 ** 20

/** Elements that are converted before the event loop may take its turn. */
const ELEMENTS_AT_ONCE = 1 << 17

/**
 * An image as a tensor [1, 3, height, width] in −1…1. It is rotated as its EXIF orientation says, and transparent parts
 * become white. With `size` it is resized to cover that size and cropped to its centre.
 *
 * @throws {TypeError} `input` is something else, or an option of the wrong type
 * @throws {RangeError} a size out of bounds, or an image of more than 134 megapixels
 * @throws {DiffusionError} IO: the image cannot be read; OUT_OF_MEMORY: it does not fit into memory
 * @throws the signal's reason after an abort, within 100 ms
 */
export async function toTensor(
  input: ImageSource,
  size?: ImageSize,
  options: { signal?: AbortSignal } = {},
): Promise<Tensor> {
  const wanted = size === undefined ? undefined : checkSize(size)
  const signal = checkSignal(checkObject(options, 'options', ['signal']).signal)
  return imageTensor(await openImage(input, 'image', signal), wanted, new TimeSlice(signal))
}

export function checkSize(size: unknown): ImageSize {
  const { width, height } = checkObject(size, 'size', ['width', 'height'])
  return {
    width: checkInteger(width, 'size.width', 1, MAX_SIDE),
    height: checkInteger(height, 'size.height', 1, MAX_SIDE),
  }
}

/** Decodes an image into a tensor. */
export async function imageTensor(
  image: OpenedImage,
  size: ImageSize | undefined,
  slice: TimeSlice,
): Promise<Tensor> {
  const { width, height } = size ?? image
  // The bytes, and a float for each of them.
  requireMemory(15 * width * height, `An image of ${width}×${height}`)
  const pixels = await image.decode((plain) => (size ? plain.resize(width, height, { fit: 'cover' }) : plain))
  return pixelsTensor(pixels, slice)
}

/** Decoded pixels as a tensor [1, 3, height, width] in −1…1. */
export async function pixelsTensor({ data, width, height }: Pixels, slice: TimeSlice): Promise<Tensor> {
  const out = new Float32Array(3 * width * height)
  for (const [begin, end] of bands(width, height)) {
    separateRows(data, width, height, out, begin, end)
    await slice.pause()
  }
  return { data: out, shape: [1, 3, height, width] }
}

/** Image.fromTensor() in slices of time. */
export async function imageFromTensor(tensor: Tensor, slice: TimeSlice): Promise<Image> {
  const planes = planesOf(tensor, 0)
  const { width, height } = planes
  const data = new Uint8ClampedArray(3 * width * height)
  for (const [begin, end] of bands(width, height)) {
    convertRows(planes, data, begin, end)
    await slice.pause()
  }
  return new Image(width, height, new Uint8Array(data.buffer))
}

/** Ranges of rows that are converted at once. */
function* bands(width: number, height: number): Generator<[begin: number, end: number]> {
  const rows = Math.max(1, Math.floor(ELEMENTS_AT_ONCE / width))
  for (let begin = 0; begin < height; begin += rows) yield [begin, Math.min(begin + rows, height)]
}
