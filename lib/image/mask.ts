/** Masks for inpainting: which part of an image is repainted. */
import type { TimeSlice } from '../time-slice.js'
import type { Tensor } from '../types.js'
import type { ImageSize, OpenedImage, Pixels } from './decode.js'

/** Shapes whose ratios differ by less are the same: sides are rounded. */
const SAME_RATIO = 0.02

/** From this alpha on a pixel counts as opaque: resizing and lossy formats leave values just below 255. */
const OPAQUE = 250

/** Largest spread of the colours of a stroke, and of black and white, for the same reason. */
const SPREAD = 32

/** Whether the mask has another shape than the image, so that it has to be stretched. */
export function hasOtherShape(mask: ImageSize, image: ImageSize): boolean {
  const ratio = (mask.width * image.height) / (mask.height * image.width)
  return Math.abs(Math.log(ratio)) > SAME_RATIO
}

/**
 * A mask as a tensor [1, 1, height, width] in 0…1, 1 where the image is repainted. White is repainted and black is kept.
 * Of colours the brightest channel counts, so that a red stroke on black is repainted. In a mask of 0 and 1, 1 is white.
 *
 * Transparency has the meaning that it has in web UIs (AUTOMATIC1111, "Inpainting"). Where the visible part is
 *
 * - of one colour, it is a stroke: it is repainted, and the transparent part is kept;
 * - black and white, it is a mask: black and transparent parts are kept;
 * - a picture, it has a hole: the transparent part is repainted.
 *
 * @param size the size of the result
 * @param image the size of the image before it is resized. The mask is resized and cropped like the image; if it has
 *   another shape, it is stretched to that of the image first
 */
export async function maskTensor(
  mask: OpenedImage,
  size: ImageSize,
  image: ImageSize,
  slice: TimeSlice,
): Promise<Tensor> {
  const { width, height } = size
  const stretched = hasOtherShape(mask, image) ? coverOf(image, size) : undefined
  const pixels = await mask.decode(
    (plain) =>
      stretched
        ? plain.resize(stretched.width, stretched.height, { fit: 'fill' }).extract({
            left: Math.floor((stretched.width - width) / 2),
            top: Math.floor((stretched.height - height) / 2),
            width,
            height,
          })
        : plain.resize(width, height, { fit: 'cover' }),
    true,
  )
  await slice.pause()
  const read = await readerFor(pixels, slice)
  const data = new Float32Array(width * height)
  for (let y = 0; y < height; y++) {
    for (let i = y * width; i < (y + 1) * width; i++) data[i] = Math.min(read(pixels.data, i * 4), 255) / 255
    if (y % 64 === 63) await slice.pause()
  }
  return { data, shape: [1, 1, height, width] }
}

/** The size of an image that has been resized to cover `size`. */
function coverOf(image: ImageSize, size: ImageSize): ImageSize {
  const factor = Math.max(size.width / image.width, size.height / image.height)
  return {
    width: Math.max(size.width, Math.round(image.width * factor)),
    height: Math.max(size.height, Math.round(image.height * factor)),
  }
}

/** Reads the mask's value, 0…255, of the RGBA pixel at `at`. */
type Reader = (rgba: Uint8Array, at: number) => number

const brightest: Reader = (rgba, at) => Math.max(rgba[at], rgba[at + 1], rgba[at + 2])

/** Finds out what the mask's pixels mean. */
async function readerFor({ data, width, height }: Pixels, slice: TimeSlice): Promise<Reader> {
  const lowest = [255, 255, 255]
  const highest = [0, 0, 0]
  let transparent = false
  let [black, white, visible] = [0, 0, 0]
  for (let y = 0; y < height; y++) {
    for (let at = y * width * 4; at < (y + 1) * width * 4; at += 4) {
      if (data[at + 3] < 255) transparent = true
      if (data[at + 3] < OPAQUE) continue
      visible++
      for (let c = 0; c < 3; c++) {
        lowest[c] = Math.min(lowest[c], data[at + c])
        highest[c] = Math.max(highest[c], data[at + c])
      }
      if (brightest(data, at) <= SPREAD) black++
      else if (Math.min(data[at], data[at + 1], data[at + 2]) >= 255 - SPREAD) white++
    }
    if (y % 64 === 63) await slice.pause()
  }
  if (!transparent) return Math.max(...highest) === 1 ? (rgba, at) => 255 * brightest(rgba, at) : brightest
  if (highest.every((value, c) => value - lowest[c] <= SPREAD)) return (rgba, at) => rgba[at + 3]
  // Antialiased edges are grey.
  if (black > 0 && white > 0 && black + white >= 0.95 * visible)
    return (rgba, at) => (brightest(rgba, at) * rgba[at + 3]) / 255
  return (rgba, at) => (rgba[at + 3] < OPAQUE ? 255 : 0)
}
