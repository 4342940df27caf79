/** Depth maps, which Stable Diffusion 2 depth takes as an input channel. */
import { requireMemory } from '../memory.js'
import type { ImageSize, OpenedImage } from '../image/index.js'
import type { TimeSlice } from '../time-slice.js'
import type { Tensor } from '../types.js'
import { broadcastRows, rows, zeros } from './tensors.js'

/** The part of an image that remains where it is scaled to cover another shape and cropped to its centre: 0…1. */
function coveredPart(image: ImageSize, size: ImageSize): ImageSize {
  const factor = Math.max(size.width / image.width, size.height / image.height)
  return { width: size.width / (image.width * factor), height: size.height / (image.height * factor) }
}

/**
 * A depth map as diffusers' StableDiffusionDepth2ImgPipeline has it: bicubic in the size of the latents, each stretched to
 * −1…1.
 *
 * @param image the size of the image that the map belongs to, before that is scaled and cropped to `size`
 * @param latents height and width of the latents
 * @returns [n, 1, h, w]; undefined where the map is the same everywhere, and thus says nothing
 */
export async function depthChannel(
  depth: Tensor | OpenedImage,
  image: ImageSize,
  size: ImageSize,
  latents: ImageSize,
  slice: TimeSlice,
): Promise<Tensor | undefined> {
  const map = 'shape' in depth ? depth : await greyTensor(depth)
  const [n, , height, width] = map.shape
  const part = coveredPart(image, size)
  const out = zeros([n, 1, latents.height, latents.width])
  const columns = taps(width, latents.width, part.width)
  const lines = taps(height, latents.height, part.height)
  for (let i = 0; i < n; i++) {
    const row = rows(out, i).data
    resample(rows(map, i).data, width, lines, columns, row)
    if (!stretch(row)) return undefined
    await slice.pause()
  }
  return out
}

/** A map for each of `n` images, which says that everything is equally far away. */
export function flatDepth(n: number, { width, height }: ImageSize): Tensor {
  return broadcastRows(zeros([1, 1, height, width]), n)
}

async function greyTensor(image: OpenedImage): Promise<Tensor> {
  const { width, height } = image
  // Three colours of up to two bytes, and a float.
  requireMemory(10 * width * height, `A depth map of ${width}×${height}`)
  const { data } = await image.decodeGrey()
  return { data, shape: [1, 1, height, width] }
}

/** Four neighbours in the source and their weights, for one position of the result. */
interface Taps {
  at: readonly number[]
  weights: readonly number[]
}

/** torch's bicubic interpolation without corners aligned and without antialiasing, of the middle `part` of a line. */
function taps(source: number, target: number, part: number): Taps[] {
  const first = ((1 - part) / 2) * source
  return Array.from({ length: target }, (_, i) => {
    const x = first + ((i + 0.5) * part * source) / target - 0.5
    const base = Math.floor(x)
    const neighbours = [-1, 0, 1, 2]
    return {
      at: neighbours.map((k) => Math.min(Math.max(base + k, 0), source - 1)),
      weights: neighbours.map((k) => cubic(x - base - k)),
    }
  })
}

/** Keys' cubic convolution kernel (1981) with the sharpness of torch. */
function cubic(distance: number): number {
  const sharpness = -0.75
  const x = Math.abs(distance)
  if (x <= 1) return ((sharpness + 2) * x - (sharpness + 3)) * x * x + 1
  return ((x - 5) * x + 8) * x * sharpness - 4 * sharpness
}

function resample(
  source: Float32Array,
  width: number,
  lines: readonly Taps[],
  columns: readonly Taps[],
  out: Float32Array,
): void {
  let next = 0
  for (const line of lines) {
    for (const column of columns) {
      let sum = 0
      for (let y = 0; y < 4; y++) {
        let across = 0
        for (let x = 0; x < 4; x++) across += column.weights[x] * source[line.at[y] * width + column.at[x]]
        sum += line.weights[y] * across
      }
      out[next++] = sum
    }
  }
}

/** Stretches values to −1…1; false if all are equal. */
function stretch(values: Float32Array): boolean {
  let [low, high] = [Infinity, -Infinity]
  for (const value of values) {
    low = Math.min(low, value)
    high = Math.max(high, value)
  }
  // Not for NaN, which a warning names later.
  if (high <= low) return false
  for (let i = 0; i < values.length; i++) values[i] = (2 * (values[i] - low)) / (high - low) - 1
  return true
}
