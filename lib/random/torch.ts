import type { Random, Tensor } from '../types.js'
import { log, sincos } from './float32.js'
import { Mt19937 } from './mt19937.js'
import { seedBits } from './seed.js'
import { elementCount } from './shape.js'

/** Number of samples in one round of the vectorized Box–Muller transform. */
const BLOCK = 16

const f = Math.fround
const TWO_PI = f(2 * Math.PI)
const pair = new Float32Array(2)

/**
 * The same floats as `torch.randn(shape, generator=torch.Generator('cpu').manual_seed(seed))`, call after call.
 *
 * Draws of fewer than 16 numbers take torch's scalar path: double precision, and one spare sample is kept for the next
 * such draw. Larger draws consist of blocks of 16; if 16 does not divide their size, the last 16 numbers are drawn
 * again.
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

  /** Fills `data` with numbers of 24 random bits in [0, 1). */
  private uniform(data: Float32Array): void {
    for (let i = 0; i < data.length; i++) data[i] = (this.engine.uint32() & 0xffffff) * 2 ** -24
  }

  /** A number of 53 random bits in [0, 1). The engine's first word gives the high bits. */
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

/** Transforms 16 uniform numbers into normal ones in place: the first eight give radii, the last eight angles. */
function boxMuller(block: Float32Array): void {
  for (let j = 0; j < BLOCK / 2; j++) {
    const radius = f(Math.sqrt(f(-2 * log(1 - block[j]))))
    sincos(f(TWO_PI * block[j + BLOCK / 2]), pair)
    // torch computes "· std + mean" with std 1 and mean 0; adding zero turns −0 into 0.
    block[j] = f(radius * pair[1]) + 0
    block[j + BLOCK / 2] = f(radius * pair[0]) + 0
  }
}
