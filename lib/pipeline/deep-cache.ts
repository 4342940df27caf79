import type { DeepCacheSetting } from '../options/index.js'
import { checkInteger, checkObject } from '../check.js'
import { native, type DeepFeatures } from '../native.js'

/**
 * Keeps features from deep in the UNet, which change little from one step to the next, and reuses them (Ma et al. 2024,
 * "DeepCache: Accelerating Diffusion Models for Free"). Each run needs its own.
 *
 * UNet calls are counted, not steps: the second call of a Heun step can reuse what the first one computed. After a
 * change of the batch size or the image size everything is computed again.
 */
export class DeepCache {
  readonly interval: number
  readonly depth: number
  readonly #features: DeepFeatures = new (native().DeepFeatures)()
  #kept = ''
  #uses = 0

  /**
   * @param options `interval`: one of this many calls computes everything, 1…1000; `depth`: the number of last decoder
   *   layers that every call computes, 1…unet.maxDepth (checked by the UNet that uses it)
   * @throws {TypeError} an option of the wrong type
   * @throws {RangeError} an option out of bounds
   */
  constructor(options: DeepCacheSetting) {
    const { interval, depth } = checkObject(options, 'options', ['interval', 'depth'])
    this.interval = checkInteger(interval, 'interval', 1, 1000)
    const { levels, layersPerLevel } = native().limits
    this.depth = checkInteger(depth, 'depth', 1, levels * (layersPerLevel + 1) - 1)
  }

  /**
   * @internal The options of the next call, for latents of this shape. The call must be made. Features of calls with
   * another `key` are not reused: other ControlNets made them.
   */
  next(shape: readonly number[], key = ''): { deep: DeepFeatures; depth: number; reuse: boolean } {
    const asked = `${shape.join()} ${key}`
    const reuse = asked === this.#kept && this.#uses < this.interval
    this.#kept = asked
    this.#uses = reuse ? this.#uses + 1 : 1
    return { deep: this.#features, depth: this.depth, reuse }
  }

  /** Frees the features; resolves when those that no call uses are free. */
  async dispose(): Promise<void> {
    this.#kept = ''
    await this.#features.dispose()
  }
}
