/** Masks at the sizes of a UNet's features. */
import type { Tensor } from '../types.js'

/** As torch's bicubic interpolation has it. */
const A = -0.75

/** A row of weights of the four inputs around an output, and the first of these. */
interface Taps {
  first: number
  weights: readonly number[]
}

/** Keys' cubic convolution without widening: of a shrinking mask, inputs between the taps do not count. */
function tapsOf(input: number, output: number): Taps[] {
  const near = (x: number) => ((A + 2) * x - (A + 3)) * x * x + 1
  const far = (x: number) => ((A * x - 5 * A) * x + 8 * A) * x - 4 * A
  return Array.from({ length: output }, (_, i) => {
    const centre = ((i + 0.5) * input) / output - 0.5
    const before = Math.floor(centre)
    const t = centre - before
    return { first: before - 1, weights: [far(t + 1), near(t), near(1 - t), far(2 - t)] }
  })
}

/** A mask [1, 1, height, width] resized to h × w. */
export function resizeMask({ data, shape }: Tensor, h: number, w: number): Float32Array {
  const [, , height, width] = shape
  const inside = (i: number, length: number) => Math.min(Math.max(i, 0), length - 1)
  const columns = tapsOf(width, w)
  const out = new Float32Array(h * w)
  for (const [y, row] of tapsOf(height, h).entries()) {
    for (const [x, column] of columns.entries()) {
      let sum = 0
      for (const [i, vertical] of row.weights.entries()) {
        const at = inside(row.first + i, height) * width
        for (const [j, horizontal] of column.weights.entries())
          sum += vertical * horizontal * data[at + inside(column.first + j, width)]
      }
      out[y * w + x] = sum
    }
  }
  return out
}

/** The mask at each of a UNet's levels for latents of h × w, one after the other; each has half the size of the one before. */
export function maskLevels(mask: Tensor, h: number, w: number, levels: number): Float32Array {
  const parts: Float32Array[] = []
  for (let level = 0; level < levels; level++) {
    parts.push(resizeMask(mask, h, w))
    h = Math.ceil(h / 2)
    w = Math.ceil(w / 2)
  }
  const out = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}
