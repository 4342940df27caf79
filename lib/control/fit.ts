/** How a picture is fitted to the size of a run, as web UIs' extension for ControlNets does it. */
import type { Sharp } from 'sharp'
import type { ImageSize } from '../image/index.js'
import type { Pixels } from '../image/decode.js'
import type { ControlFit } from '../options/index.js'
import type { TimeSlice } from '../time-slice.js'

/** Size that the picture is scaled to; with 'fill' a part of the run's size. */
export function scaledSize(picture: ImageSize, size: ImageSize, fit: ControlFit): ImageSize {
  if (fit !== 'fill') return size
  const scale = Math.min(size.width / picture.width, size.height / picture.height)
  const side = (of: 'width' | 'height') => Math.min(Math.max(Math.round(picture[of] * scale), 1), size[of])
  return { width: side('width'), height: side('height') }
}

/** Scales a picture: 'resize' stretches it, and 'crop' cuts its sides. */
export function scaled(image: Sharp, { width, height }: ImageSize, fit: ControlFit, nearest: boolean): Sharp {
  return image.resize(width, height, {
    fit: fit === 'crop' ? 'cover' : 'fill',
    // A mixture of two classes' colours would be the colour of a third.
    ...(nearest && { kernel: 'nearest' as const }),
  })
}

/** Puts the picture in the middle of a larger one, in the median colour of its border. */
export async function padded(pixels: Pixels, size: ImageSize, slice: TimeSlice): Promise<Pixels> {
  const { data, width, height } = pixels
  if (width === size.width && height === size.height) return pixels
  const background = medianOfBorder(pixels)
  const out = new Uint8Array(3 * size.width * size.height)
  const [left, top] = [Math.floor((size.width - width) / 2), Math.floor((size.height - height) / 2)]
  for (let y = 0; y < size.height; y++) {
    const row = out.subarray(3 * y * size.width, 3 * (y + 1) * size.width)
    for (let x = 0; x < size.width; x++) row.set(background, 3 * x)
    const from = y - top
    if (from >= 0 && from < height) row.set(data.subarray(3 * from * width, 3 * (from + 1) * width), 3 * left)
    await slice.pause()
  }
  return { data: out, ...size }
}

/** Of each channel, over the first and last rows and columns. */
function medianOfBorder({ data, width, height }: Pixels): number[] {
  const border: number[] = []
  for (let x = 0; x < width; x++) border.push(x, (height - 1) * width + x)
  for (let y = 0; y < height; y++) border.push(y * width, y * width + width - 1)
  return [0, 1, 2].map((c) => {
    const levels = Uint8Array.from(border, (at) => data[3 * at + c]).sort()
    // The number of levels is even: the mean of the two in the middle, rounded down.
    return (levels[levels.length / 2 - 1] + levels[levels.length / 2]) >> 1
  })
}
