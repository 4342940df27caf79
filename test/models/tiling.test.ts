/** Tiled decoding and encoding against the tiles computed one by one, and against the image decoded whole: no seams. */
import { join } from 'node:path'
import t from 'tap'
import type { NativeVae } from '../../lib/native.js'
import { compute, difference, load } from './compute.js'
import { cases, fixtures, floats, type Case } from './fixtures.js'

const decode = cases.find((c) => c.model === 'vae-tiled' && c.kind === 'decode')!
const encode = cases.find((c) => c.model === 'vae-tiled' && c.kind === 'encode')!
const FACTOR = 4

interface Planes {
  data: Float32Array
  shape: number[] // 1, c, h, w
}

function crop({ data, shape }: Planes, y: number, x: number, h: number, w: number): Float32Array {
  const [, c, height, width] = shape
  const out = new Float32Array(c * h * w)
  for (let i = 0, o = 0; i < c; i++) {
    for (let row = y; row < y + h; row++) {
      const begin = (i * height + row) * width + x
      out.set(data.subarray(begin, begin + w), o)
      o += w
    }
  }
  return out
}

/** Where tiles of `size` that share at least `overlap` begin: the fewest, spread evenly. */
function begins(length: number, size: number, overlap: number): number[] {
  const steps = Math.ceil((length - size) / (size - overlap))
  return Array.from({ length: steps + 1 }, (_, i) => Math.floor((i * (length - size)) / steps))
}

/** Weight of tile `i` at the middle of pixel `at`: rises and falls along straight lines over what neighbours share. */
function weight(starts: number[], i: number, size: number, at: number): number {
  const middle = at + 0.5
  if (middle < starts[i] || middle > starts[i] + size) return 0
  const before = i > 0 ? starts[i - 1] + size - starts[i] : 0
  const after = i + 1 < starts.length ? starts[i] + size - starts[i + 1] : 0
  const rise = before > 0 ? Math.min(1, (middle - starts[i]) / before) : 1
  const fall = after > 0 ? Math.min(1, (starts[i] + size - middle) / after) : 1
  return rise * fall
}

/** The weighted mean of tiles; `ys` and `xs` say where they begin, all in pixels of the result. */
function blend(tiles: Float32Array[], c: number, side: number, ys: number[], xs: number[]): Float32Array {
  const h = ys.at(-1)! + side
  const w = xs.at(-1)! + side
  const sum = new Float64Array(c * h * w)
  const weights = new Float64Array(h * w)
  for (const [i, tile] of tiles.entries()) {
    const [row, column] = [Math.floor(i / xs.length), i % xs.length]
    for (let y = ys[row]; y < ys[row] + side; y++) {
      for (let x = xs[column]; x < xs[column] + side; x++) {
        const share = weight(ys, row, side, y) * weight(xs, column, side, x)
        weights[y * w + x] += share
        for (let k = 0; k < c; k++) {
          sum[(k * h + y) * w + x] += share * tile[(k * side + y - ys[row]) * side + x - xs[column]]
        }
      }
    }
  }
  return Float32Array.from(sum, (value, i) => value / weights[i % (h * w)])
}

/** Mean |change of (tiled − whole) from one column to the next|, at the columns given and everywhere. */
function roughness(
  tiled: Float32Array,
  whole: Float32Array,
  width: number,
  columns: number[],
): [number, number] {
  let at = 0
  let everywhere = 0
  const rows = whole.length / width
  for (let row = 0; row < rows; row++) {
    for (let x = 1; x < width; x++) {
      const i = row * width + x
      const change = Math.abs(tiled[i] - whole[i] - (tiled[i - 1] - whole[i - 1]))
      everywhere += change
      if (columns.includes(x)) at += change
    }
  }
  return [at / (rows * columns.length), everywhere / (rows * (width - 1))]
}

t.test('vae tiling', async (t) => {
  const model = await load(join(fixtures, 'vae-tiled', 'vae'), 'vae')
  t.teardown(() => model.dispose())
  const whole = (await compute(model, decode)) as Float32Array
  const run = async (of: Case, size: number, overlap: number) =>
    (await compute(model, of, { size, overlap })) as Float32Array

  t.test('a tile as large as the image is the image', async (t) => {
    for (const size of [20, 64]) t.equal(difference(await run(decode, size, 4), whole).error, 0)
  })

  for (const [size, overlap] of [
    [12, 4],
    [5, 0],
    [7, 3],
    [9, 8],
    [6, 1],
  ]) {
    // prettier-ignore
    t.test(`tiles of ${size}, overlap ${overlap}: each computed alone, then blended`, async (t) => {
      const latents = floats(decode, 'latents')
      const [, c, h, w] = latents.shape
      const [ys, xs] = [begins(h, size, overlap), begins(w, size, overlap)]
      const decoded: Float32Array[] = []
      const encoded: Float32Array[] = []
      const image = floats(encode, 'image')
      const side = size * FACTOR
      for (const y of ys) {
        for (const x of xs) {
          decoded.push(await (model as NativeVae).decode(crop(latents, y, x, size, size), 1, size, size, null))
          const piece = crop(image, y * FACTOR, x * FACTOR, side, side)
          encoded.push(await (model as NativeVae).encode(piece, 1, side, side, null))
        }
      }
      const far = (starts: number[]) => starts.map((start) => start * FACTOR)
      for (const [of, expected] of [
        [decode, blend(decoded, 3, side, far(ys), far(xs))],
        [encode, blend(encoded, 2 * c, size, ys, xs)],
      ] as const) {
        const { error, scale } = difference(await run(of, size, overlap), expected)
        t.ok(error <= 1e-5 * scale, `${of.kind}: ${error} ≤ ${1e-5 * scale}`)
      }
    })
  }

  t.test('no seams: where tiles begin and end the image is as smooth as elsewhere', async (t) => {
    const width = 16 * FACTOR
    const edges = [4, 12].map((x) => x * FACTOR) // tiles of 12 from 0 and from 4
    const [blended, all] = roughness(await run(decode, 12, 4), whole, width, edges)
    t.ok(blended <= 1.5 * all, `blended: ${blended} at the edges, ${all} everywhere`)
    // The measure sees seams where there are some.
    const [cut, rest] = roughness(await run(decode, 8, 0), whole, width, [8 * FACTOR])
    t.ok(cut > 1.5 * rest, `cut: ${cut} at the edge, ${rest} everywhere`)
  })

  t.test('a batch: each image as alone', async (t) => {
    const { data, shape } = floats(decode, 'latents')
    const twice = new Float32Array(2 * data.length)
    twice.set(data)
    twice.set(data, data.length)
    const tiling = { size: 7, overlap: 3 }
    const both = await (model as NativeVae).decode(twice, 2, shape[2], shape[3], tiling)
    const alone = await run(decode, tiling.size, tiling.overlap)
    t.equal(difference(both.subarray(0, alone.length), alone).error, 0)
    t.equal(difference(both.subarray(alone.length), alone).error, 0)
  })
})
