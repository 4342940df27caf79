/** Strokes along the edges of light and dark: an extended difference of Gaussians (Winnemöller 2011), thresholded. */
import type { Pixels } from '../../image/decode.js'
import type { TimeSlice } from '../../time-slice.js'

const FINE = 0.5
const COARSE = 5

/** Weights of a Gaussian from −radius to radius, whose sum is 1. The tails beyond four deviations do not count. */
function gaussian(sigma: number): Float64Array {
  const radius = Math.round(4 * sigma)
  const weights = Float64Array.from({ length: 2 * radius + 1 }, (_, i) =>
    Math.exp(-((i - radius) ** 2) / (2 * sigma ** 2)),
  )
  const sum = weights.reduce((total, weight) => total + weight, 0)
  return weights.map((weight) => weight / sum)
}

/** Index i of a row that is continued by its mirror image, without the pixel at the mirror. */
function mirrored(i: number, length: number): number {
  if (length === 1) return 0
  const period = 2 * (length - 1)
  const at = ((i % period) + period) % period
  return at < length ? at : period - at
}

/** Interleaved RGB, blurred. */
async function blurred({ data, width, height }: Pixels, sigma: number, slice: TimeSlice) {
  const weights = gaussian(sigma)
  const radius = (weights.length - 1) / 2
  const row = 3 * width
  const narrow = new Float32Array(row * height)
  const columns = Int32Array.from({ length: width + 2 * radius }, (_, x) => 3 * mirrored(x - radius, width))
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let [r, g, b] = [0, 0, 0]
      for (let i = 0; i < weights.length; i++) {
        const at = y * row + columns[x + i]
        r += weights[i] * data[at]
        g += weights[i] * data[at + 1]
        b += weights[i] * data[at + 2]
      }
      narrow.set([r, g, b], y * row + 3 * x)
    }
    await slice.pause()
  }
  const out = new Float32Array(row * height)
  for (let y = 0; y < height; y++) {
    for (let i = 0; i < weights.length; i++) {
      const from = row * mirrored(y + i - radius, height)
      for (let x = 0; x < row; x++) out[y * row + x] += weights[i] * narrow[from + x]
    }
    await slice.pause()
  }
  return out
}

/**
 * White strokes on black where a pixel is darker than what surrounds it.
 *
 * @returns pixels of one channel
 */
export async function scribbleEdges(
  pixels: Pixels,
  threshold: number,
  slice: TimeSlice,
): Promise<Uint8Array> {
  const fine = await blurred(pixels, FINE, slice)
  const coarse = await blurred(pixels, COARSE, slice)
  const out = new Uint8Array(pixels.width * pixels.height)
  for (let i = 0; i < out.length; i++) {
    const differences = [0, 1, 2].map((c) => coarse[3 * i + c] - fine[3 * i + c])
    // In whole levels, as web UIs compute it.
    const level = Math.trunc(Math.min(Math.max(255 - Math.min(...differences), 0), 255))
    out[i] = 2 * (255 - level) > threshold ? 255 : 0
    if (i % 4096 === 0) await slice.pause()
  }
  return out
}
