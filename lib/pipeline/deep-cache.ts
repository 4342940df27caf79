import type { DeepCacheSetting } from '../acceleration.js'
import { checkInteger, checkObject } from '../check.js'
import { native, type DeepFeatures } from '../native.js'

/**
 * Features from deep in the UNet that change little from one step to the next, kept to be used again (Ma et al. 2024,
 * "DeepCache: Accelerating Diffusion Models for Free"). One for each run: nobody else's calls touch it.
 *
 * Calls are counted, not steps: the second call of a Heun step may use what the first has computed. After a change of
 * batch or size everything is computed anew.
 */
export class DeepCache {
  readonly interval: number
  readonly depth: number
  readonly #features: DeepFeatures = new (native().DeepFeatures)()
  #kept = ''
  #uses = 0

  /**
   * @param options `interval`: of so many calls one computes everything, 1…1000; `depth`: layers of the way up that all
   *   calls compute, 1…all but one (which is checked by the UNet that uses it)
   */
  constructor(options: DeepCacheSetting) {
    const { interval, depth } = checkObject(options, 'options', ['interval', 'depth'])
    this.interval = checkInteger(interval, 'interval', 1, 1000)
    const { levels, layersPerLevel } = native().limits
    this.depth = checkInteger(depth, 'depth', 1, levels * (layersPerLevel + 1) - 1)
  }

  /** @internal What the next call for latents of this shape is to do. It must be made. */
  next(shape: readonly number[]): { deep: DeepFeatures; depth: number; reuse: boolean } {
    const asked = shape.join()
    const reuse = asked === this.#kept && this.#uses < this.interval
    this.#kept = asked
    this.#uses = reuse ? this.#uses + 1 : 1
    return { deep: this.#features, depth: this.depth, reuse }
  }

  /** Gives the features' memory back. */
  dispose(): void {
    this.#features.dispose()
    this.#kept = ''
  }
}
