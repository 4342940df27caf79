/** Sources of noise. A seed gives the same latents as torch with a CPU generator, or as the web UIs on a GPU. */
import { checkOneOf } from '../check.js'
import type { TimeSlice } from '../time-slice.js'
import type { Random, Tensor } from '../types.js'
import { PhiloxRandom } from './philox.js'
import { elementCount } from './shape.js'
import { TorchRandom } from './torch.js'

export { PhiloxRandom, TorchRandom }

/** 'torch': as `torch.randn` with a CPU generator; 'philox': as the web UIs on a GPU. */
export type RngName = 'torch' | 'philox'

/** The values of `rng`. */
export const rngNames: readonly RngName[] = ['torch', 'philox']

/**
 * The source of noise for one image.
 *
 * @param seed −2⁶³…2⁶⁴−1; above 2⁵³ it must be a bigint
 * @throws {TypeError} a name of another type, or a seed that is not an integer
 * @throws {RangeError} an unknown name, or a seed out of bounds
 */
export function randomFor(rng: RngName, seed: number | bigint): Random {
  return checkOneOf(rng, 'rng', rngNames) === 'torch' ? new TorchRandom(seed) : new PhiloxRandom(seed)
}

/**
 * One source of noise for each image of a batch, so that images do not depend on each other: row i of every draw comes
 * from `sources[i]`, as in diffusers with a list of generators.
 */
export class BatchRandom implements Random {
  constructor(private readonly sources: readonly Random[]) {}

  normal(shape: readonly number[]): Tensor {
    if (shape[0] !== this.sources.length) {
      throw new RangeError(
        `Expected a batch of ${this.sources.length} but received shape [${shape.join(', ')}]`,
      )
    }
    const row = [1, ...shape.slice(1)]
    const size = elementCount(row)
    const data = new Float32Array(size * this.sources.length)
    this.sources.forEach((source, i) => data.set(source.normal(row).data, i * size))
    return { data, shape: [...shape] }
  }

  /** normal(), with a pause after each image. */
  async normalInSlices(shape: readonly number[], slice: TimeSlice): Promise<Tensor> {
    const [n, ...rest] = shape
    const size = elementCount(rest)
    const data = new Float32Array(size * n)
    for (const [i, source] of this.sources.entries()) {
      data.set(source.normal([1, ...rest]).data, i * size)
      await slice.pause()
    }
    return { data, shape: [...shape] }
  }
}

/** The sources of noise for `count` images with the seeds `seed`, `seed` + 1, …, wrapping around at 2⁶⁴. */
export function randomForBatch(rng: RngName, seed: number | bigint, count: number): BatchRandom {
  const first = BigInt(seed)
  return new BatchRandom(
    Array.from({ length: count }, (_, i) =>
      randomFor(rng, i === 0 ? seed : BigInt.asUintN(64, first + BigInt(i))),
    ),
  )
}
