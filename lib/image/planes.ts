/** Tensors to bytes and back: planes of numbers in −1…1 to interleaved RGB. */
import { checkInteger, checkTensor } from '../check.js'
import type { Tensor } from '../types.js'

/** One image of a tensor: one plane for each channel, or one for all three. */
export interface Planes {
  width: number
  height: number
  /** One plane after the other. */
  data: Float32Array
  channels: 1 | 3
}

/**
 * Image `index` of a tensor [n, 3, height, width], [n, 1, height, width] or without n.
 *
 * @throws {TypeError} something else than a tensor
 * @throws {RangeError} the tensor has another shape
 */
export function planesOf(tensor: Tensor, index: number): Planes {
  const { data, shape } = checkTensor(tensor, 'tensor')
  const [n, channels, height, width] = shape.length === 3 ? [1, ...shape] : shape
  if (shape.length < 3 || shape.length > 4 || (channels !== 3 && channels !== 1)) {
    throw new RangeError(`Expected a tensor [n, 3, height, width] but received [${shape.join(', ')}]`)
  }
  checkInteger(index, 'index', 0, n - 1)
  const size = channels * height * width
  return { width, height, channels, data: data.subarray(index * size, (index + 1) * size) }
}

/**
 * Writes rows `begin`…`end` as RGB. Assigning to clamped bytes rounds half to even and turns NaN into 0, as NumPy does
 * for diffusers.
 */
export function convertRows(
  { data, channels, width, height }: Planes,
  out: Uint8ClampedArray,
  begin: number,
  end: number,
): void {
  const plane = width * height
  for (let channel = 0; channel < 3; channel++) {
    const start = channels === 3 ? channel * plane : 0
    for (let i = begin * width; i < end * width; i++) out[i * 3 + channel] = (data[start + i] / 2 + 0.5) * 255
  }
}

/** Writes rows `begin`…`end` of interleaved RGB as planes in −1…1. */
export function separateRows(
  bytes: Uint8Array,
  width: number,
  height: number,
  out: Float32Array,
  begin: number,
  end: number,
): void {
  const plane = width * height
  for (let channel = 0; channel < 3; channel++) {
    for (let i = begin * width; i < end * width; i++)
      out[channel * plane + i] = bytes[i * 3 + channel] / 127.5 - 1
  }
}
