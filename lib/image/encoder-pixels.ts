/** Images as an image encoder takes them: transformers' CLIPImageProcessor. */
import { requireMemory } from '../memory.js'
import type { TimeSlice } from '../time-slice.js'
import type { PixelStatistics, Tensor } from '../types.js'
import type { OpenedImage, Pixels } from './decode.js'
import { convertRows, planesOf } from './planes.js'
import { resizeBicubic } from './resample.js'

/** The pixels of an image, or of image `index` of a tensor [n, 3, h, w] in −1…1, rounded to bytes. */
export async function bytesOf(image: OpenedImage | Tensor, index = 0): Promise<Pixels> {
  if (!('shape' in image)) {
    requireMemory(6 * image.width * image.height, `An image of ${image.width}×${image.height}`)
    return image.decode()
  }
  const planes = planesOf(image, index)
  const { width, height } = planes
  const data = new Uint8ClampedArray(3 * width * height)
  convertRows(planes, data, 0, height)
  return { data: new Uint8Array(data.buffer), width, height }
}

/** The centre of the image, its shorter side resized to `side`: [3, side, side], normalized. */
export async function encoderPixels(
  pixels: Pixels,
  side: number,
  { mean, deviation }: PixelStatistics,
  slice: TimeSlice,
): Promise<Float32Array> {
  const { width, height } = pixels
  const [short, long] = [Math.min(width, height), Math.max(width, height)]
  const longer = Math.trunc((side * long) / short)
  const size = width <= height ? { width: side, height: longer } : { width: longer, height: side }
  const resized = await resizeBicubic(pixels, size, slice)
  const [left, top] = [Math.floor((size.width - side) / 2), Math.floor((size.height - side) / 2)]
  const out = new Float32Array(3 * side * side)
  for (let channel = 0; channel < 3; channel++) {
    for (let y = 0; y < side; y++) {
      const row = 3 * ((top + y) * size.width + left) + channel
      for (let x = 0; x < side; x++)
        out[(channel * side + y) * side + x] =
          (resized.data[row + 3 * x] / 255 - mean[channel]) / deviation[channel]
    }
  }
  return out
}
