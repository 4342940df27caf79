import type { Random, Tensor } from '../types.js'
import { seedBits } from './seed.js'
import { elementCount } from './shape.js'

/**
 * Multipliers and Weyl increments of Philox-4×32 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
 */
const M0 = 0xd2511f53
const M1 = 0xcd9e8d57
const W0 = 0x9e3779b9
const W1 = 0xbb67ae85
const ROUNDS = 10

/** 2⁻³² and 2π·2⁻³² as the float32 constants of cuRAND's Box–Muller transform. */
const SCALE = Math.fround(2.3283064e-10)
const SCALE_2PI = Math.fround(2.3283064e-10 * 6.2831855)

/**
 * The noise of the web UIs on a GPU (AUTOMATIC1111, "random number generator source: NV"): that of `torch.randn` on a
 * CUDA device up to the last bit. Sample i of draw d uses the words of counter (d, 0, i, 0) with the key `seed`.
 */
export class PhiloxRandom implements Random {
  private readonly key0: number
  private readonly key1: number
  private draws = 0

  constructor(seed: number | bigint) {
    const bits = seedBits(seed)
    this.key0 = Number(bits & 0xffffffffn)
    this.key1 = Number(bits >> 32n)
  }

  normal(shape: readonly number[]): Tensor {
    const data = new Float32Array(elementCount(shape))
    const draw = this.draws++
    for (let i = 0; i < data.length; i++) {
      let [c0, c1, c2, c3] = [draw, 0, i, 0]
      let [k0, k1] = [this.key0, this.key1]
      for (let round = 0; round < ROUNDS; round++) {
        const high0 = multiplyHigh(M0, c0)
        const high1 = multiplyHigh(M1, c2)
        const low0 = Math.imul(M0, c0)
        const low1 = Math.imul(M1, c2)
        c0 = (high1 ^ c1 ^ k0) >>> 0
        c1 = low1
        c2 = (high0 ^ c3 ^ k1) >>> 0
        c3 = low0
        k0 = (k0 + W0) >>> 0
        k1 = (k1 + W1) >>> 0
      }
      const u = c0 * SCALE + SCALE / 2
      const v = (c1 >>> 0) * SCALE_2PI + SCALE_2PI / 2
      data[i] = Math.sqrt(-2 * Math.log(u)) * Math.sin(v)
    }
    return { data, shape: [...shape] }
  }
}

/** The high 32 bits of the 64-bit product of two unsigned 32-bit integers. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff
  const aHigh = a >>> 16
  const bLow = b & 0xffff
  const bHigh = b >>> 16
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16)
  const carry = aLow * bHigh + (middle % 0x10000)
  return (aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(carry / 0x10000)) >>> 0
}
