/**
 * Resizing as Pillow does it, bit for bit: image encoders were trained and are used with its pictures, and libvips'
 * differ by several levels.
 */
import type { TimeSlice } from '../time-slice.js'
import type { ImageSize, Pixels } from './decode.js'

/** Pillow rounds weights to this many bits, and sums to whole levels after each of both passes. */
const BITS = 22

/** The weights of one output pixel: of the input pixels from `first` on. */
interface Weights {
  first: number
  values: Float64Array
}

/** Keys' cubic convolution with a = −0.5. */
function cubic(at: number): number {
  const x = Math.abs(at)
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0
}

/** When an image shrinks, the filter widens with the ratio, so that every input pixel counts. */
function weightsOf(input: number, output: number): Weights[] {
  const scale = input / output
  const stretch = Math.max(scale, 1)
  const support = 2 * stretch
  return Array.from({ length: output }, (_, i) => {
    const centre = (i + 0.5) * scale
    const first = Math.max(Math.trunc(centre - support + 0.5), 0)
    const end = Math.min(Math.trunc(centre + support + 0.5), input)
    const values = Float64Array.from({ length: end - first }, (_, x) =>
      cubic((x + first - centre + 0.5) * (1 / stretch)),
    )
    const sum = values.reduce((total, value) => total + value, 0)
    for (const [x, value] of values.entries()) {
      const scaled = (value / sum) * 2 ** BITS
      values[x] = Math.trunc(scaled + (scaled < 0 ? -0.5 : 0.5))
    }
    return { first, values }
  })
}

function level(sum: number): number {
  return Math.min(Math.max(Math.floor(sum / 2 ** BITS), 0), 255)
}

/** Resizes RGB pixels by Pillow's bicubic filter. */
export async function resizeBicubic(pixels: Pixels, size: ImageSize, slice: TimeSlice): Promise<Pixels> {
  // Both passes round. The rows come first, but since Pillow 13 not in tall images that have less to compute the other way.
  const { width, height } = pixels
  const tall = height > width && size.height < height
  const columnsFirst = tall && width * size.height < size.width * height
  const narrow = async (image: Pixels) =>
    image.width === size.width ? image : resizeRows(image, size.width, slice)
  const flatten = async (image: Pixels) =>
    image.height === size.height ? image : resizeColumns(image, size.height, slice)
  return columnsFirst ? narrow(await flatten(pixels)) : flatten(await narrow(pixels))
}

async function resizeRows({ data, width, height }: Pixels, to: number, slice: TimeSlice): Promise<Pixels> {
  const out = new Uint8Array(3 * to * height)
  const weights = weightsOf(width, to)
  for (let y = 0; y < height; y++) {
    const row = 3 * y * width
    for (const [x, { first, values }] of weights.entries()) {
      let [r, g, b] = [2 ** (BITS - 1), 2 ** (BITS - 1), 2 ** (BITS - 1)]
      for (let i = 0; i < values.length; i++) {
        const at = row + 3 * (first + i)
        r += data[at] * values[i]
        g += data[at + 1] * values[i]
        b += data[at + 2] * values[i]
      }
      const at = 3 * (y * to + x)
      out[at] = level(r)
      out[at + 1] = level(g)
      out[at + 2] = level(b)
    }
    await slice.pause()
  }
  return { data: out, width: to, height }
}

async function resizeColumns({ data, width, height }: Pixels, to: number, slice: TimeSlice): Promise<Pixels> {
  const row = 3 * width
  const out = new Uint8Array(row * to)
  const sums = new Float64Array(row)
  for (const [y, { first, values }] of weightsOf(height, to).entries()) {
    sums.fill(2 ** (BITS - 1))
    for (let i = 0; i < values.length; i++) {
      const from = row * (first + i)
      for (let x = 0; x < row; x++) sums[x] += data[from + x] * values[i]
    }
    for (let x = 0; x < row; x++) out[y * row + x] = level(sums[x])
    await slice.pause()
  }
  return { data: out, width, height: to }
}
