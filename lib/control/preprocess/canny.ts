/** Canny's edge detector (Canny 1986), as OpenCV's Canny() computes it on a picture in colour. */
import type { Pixels } from '../../image/decode.js'
import type { TimeSlice } from '../../time-slice.js'

/** An edge if it touches one. */
const WEAK = 1
const EDGE = 2

/** tan 22.5° in 15 fractional bits: OpenCV divides directions in whole numbers. */
const TANGENT = 13573
const BITS = 15

/** Sobel's gradients of the channel in which they are largest, and |dx| + |dy|. */
interface Gradients {
  dx: Int16Array
  dy: Int16Array
  /** With a border of zeros: row y of the picture begins at (y + 1) · (width + 2) + 1. */
  magnitude: Int32Array
}

async function gradientsOf({ data, width, height }: Pixels, slice: TimeSlice): Promise<Gradients> {
  const dx = new Int16Array(width * height)
  const dy = new Int16Array(width * height)
  const magnitude = new Int32Array((width + 2) * (height + 2))
  for (let y = 0; y < height; y++) {
    const above = 3 * width * Math.max(y - 1, 0)
    const here = 3 * width * y
    const below = 3 * width * Math.min(y + 1, height - 1)
    for (let x = 0; x < width; x++) {
      const [left, right] = [3 * Math.max(x - 1, 0), 3 * Math.min(x + 1, width - 1)]
      let [largest, largestX, largestY] = [-1, 0, 0]
      for (let c = 0; c < 3; c++) {
        const [topLeft, topRight] = [data[above + left + c], data[above + right + c]]
        const [bottomLeft, bottomRight] = [data[below + left + c], data[below + right + c]]
        const gx =
          topRight - topLeft + 2 * (data[here + right + c] - data[here + left + c]) + bottomRight - bottomLeft
        const gy =
          bottomLeft -
          topLeft +
          2 * (data[below + 3 * x + c] - data[above + 3 * x + c]) +
          bottomRight -
          topRight
        const sum = Math.abs(gx) + Math.abs(gy)
        if (sum <= largest) continue
        largest = sum
        largestX = gx
        largestY = gy
      }
      dx[y * width + x] = largestX
      dy[y * width + x] = largestY
      magnitude[(y + 1) * (width + 2) + x + 1] = largest
    }
    await slice.pause()
  }
  return { dx, dy, magnitude }
}

/** Whether a pixel's gradient is the largest across the edge; equal neighbours leave one of them. */
function isMaximum({ magnitude }: Gradients, at: number, stride: number, dx: number, dy: number): boolean {
  const m = magnitude[at]
  const x = Math.abs(dx)
  const y = Math.abs(dy) * 2 ** BITS
  const tangent = x * TANGENT
  if (y < tangent) return m > magnitude[at - 1] && m >= magnitude[at + 1]
  // tan 67.5° is two more than tan 22.5°.
  if (y > tangent + x * 2 ** (BITS + 1)) return m > magnitude[at - stride] && m >= magnitude[at + stride]
  const side = dx < 0 !== dy < 0 ? -1 : 1
  return m > magnitude[at - stride - side] && m > magnitude[at + stride + side]
}

/**
 * White edges on black. Gradients above `high` begin an edge, and those above `low` continue it.
 *
 * @returns pixels of one channel
 */
export async function cannyEdges(
  pixels: Pixels,
  low: number,
  high: number,
  slice: TimeSlice,
): Promise<Uint8Array> {
  const { width, height } = pixels
  const gradients = await gradientsOf(pixels, slice)
  const stride = width + 2
  const marks = new Uint8Array(stride * (height + 2))
  const edges: number[] = []
  const [least, most] = [Math.floor(low), Math.floor(high)]
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = (y + 1) * stride + x + 1
      const from = y * width + x
      const m = gradients.magnitude[at]
      if (m <= least || !isMaximum(gradients, at, stride, gradients.dx[from], gradients.dy[from])) continue
      marks[at] = m > most ? EDGE : WEAK
      if (m > most) edges.push(at)
    }
    await slice.pause()
  }
  const around = [-stride - 1, -stride, -stride + 1, -1, 1, stride - 1, stride, stride + 1]
  for (let at = edges.pop(); at !== undefined; at = edges.pop()) {
    for (const step of around) {
      if (marks[at + step] !== WEAK) continue
      marks[at + step] = EDGE
      edges.push(at + step)
    }
    if (edges.length % 1024 === 0) await slice.pause()
  }
  const out = new Uint8Array(width * height)
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) out[y * width + x] = marks[(y + 1) * stride + x + 1] === EDGE ? 255 : 0
  return out
}
