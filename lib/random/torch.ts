import type { Random, Tensor } from '../types.js'
import { log, sincos } from './float32.js'
import { Mt19937 } from './mt19937.js'
import { seedBits } from './seed.js'
import { elementCount } from './shape.js'

/** Samples that one round of the vectorized Box–Muller transform makes. */
const BLOCK = 16

const f = Math.fround
const TWO_PI = f(2 * Math.PI)
const pair = new Float32Array(2)

/**
 * `torch.randn(shape, generator=torch.Generator('cpu').manual_seed(seed))`, the same floats, call after call.
 *
 * Draws of fewer than 16 numbers go through torch's scalar path (double precision, one spare sample kept for the next
 * such draw); larger ones are made of blocks of 16, and the last 16 are drawn anew where 16 does not divide the count.
 */
export class TorchRandom implements Random {
  private readonly engine: Mt19937
  private spare: number | undefined

  constructor(seed: number | bigint) {
    this.engine = new Mt19937(Number(seedBits(seed) & 0xffffffffn))
  }

  normal(shape: readonly number[]): Tensor {
    const count = elementCount(shape)
    const data = new Float32Array(count)
    if (count < BLOCK) {
      for (let i = 0; i < count; i++) data[i] = this.scalar()
    } else {
      this.uniform(data)
      for (let i = 0; i + BLOCK <= count; i += BLOCK) boxMuller(data.subarray(i, i + BLOCK))
      if (count % BLOCK !== 0) {
        const tail = data.subarray(count - BLOCK)
        this.uniform(tail)
        boxMuller(tail)
      }
    }
    return { data, shape: [...shape] }
  }

  /** 24 random bits each, in [0, 1). */
  private uniform(data: Float32Array): void {
    for (let i = 0; i < data.length; i++) data[i] = (this.engine.uint32() & 0xffffff) * 2 ** -24
  }

  /** 53 random bits in [0, 1): the engine's first word gives the high ones. */
  private uniformDouble(): number {
    const high = this.engine.uint32() & 0x1fffff
    return (high * 2 ** 32 + this.engine.uint32()) * 2 ** -53
  }

  private scalar(): number {
    if (this.spare !== undefined) {
      const sample = this.spare
      this.spare = undefined
      return sample
    }
    const angle = 2 * Math.PI * this.uniformDouble()
    const radius = Math.sqrt(-2 * Math.log1p(-this.uniformDouble()))
    this.spare = radius * Math.sin(angle)
    return radius * Math.cos(angle)
  }
}

/** Turns 16 uniform numbers into normal ones in place: the first eight give radii, the last eight angles. */
function boxMuller(block: Float32Array): void {
  for (let j = 0; j < BLOCK / 2; j++) {
    const radius = f(Math.sqrt(f(-2 * log(1 - block[j]))))
    sincos(f(TWO_PI * block[j + BLOCK / 2]), pair)
    // Adding zero is what torch's "· std + mean" leaves: it turns −0 into 0.
    block[j] = f(radius * pair[1]) + 0
    block[j + BLOCK / 2] = f(radius * pair[0]) + 0
  }
}
