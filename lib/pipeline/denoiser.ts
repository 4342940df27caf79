import { inInterval, type GenerateRequest } from '../options/index.js'
import { native } from '../native.js'
import type { Scheduler, Tensor } from '../types.js'
import { conditioningRows, stackConditioning, type Conditioning } from './conditioning.js'
import { DeepCache } from './deep-cache.js'
import { guide, guideEdit } from './guidance.js'
import { isGuided, rowsPerImage } from './prompt.js'
import { concatChannels, stack, twice, zeros } from './tensors.js'
import type { Unet } from './unet.js'

/** What the predictions of a run depend on beside the latents. */
export interface DenoiserInput {
  conditioning: Conditioning
  /** Input channels that the scheduler does not scale. */
  extra: readonly Tensor[]
  scheduler: Pick<Scheduler, 'timesteps' | 'order'>
  /** The UNet calls that it makes are a part of the schedule: from the index `begin` to before `end`. */
  begin: number
  end: number
  signal: AbortSignal
}

/**
 * Predicts with guidance, all halves as one batch, or outside the guidance interval with the conditional half alone. It
 * serves the UNet calls of one UNet in a run, one after the other.
 */
export class Denoiser {
  readonly #conditional: Conditioning
  readonly #deepCache: DeepCache | undefined
  /** Timesteps that the UNet prepares at once: as many as it keeps with each row of conditions. */
  readonly #prepared: number

  constructor(
    readonly unet: Unet,
    private readonly request: GenerateRequest,
    private readonly input: DenoiserInput,
  ) {
    const { conditioning } = input
    const { count, deepCache } = request
    this.#conditional = isGuided(request) ? conditioningRows(conditioning, count, 2 * count) : conditioning
    this.#deepCache =
      deepCache &&
      new DeepCache({ interval: deepCache.interval, depth: Math.min(deepCache.depth, unet.maxDepth) })
    const { context, ...embedded } = conditioning
    const rows = Object.keys(embedded).length > 0 ? context.shape[0] : 1
    this.#prepared = Math.max(Math.floor(native().limits.preparedTimesteps / rows), 1)
  }

  /** The prediction for UNet call `index` of the schedule. */
  async predict(latents: Tensor, index: number): Promise<Tensor> {
    const { request, input } = this
    const { scheduler, conditioning, begin, end, signal, extra } = input
    if ((index - begin) % this.#prepared === 0) {
      const next = Array.prototype.slice.call(
        scheduler.timesteps,
        index,
        Math.min(index + this.#prepared, end),
      )
      const { context: _, ...embedded } = conditioning
      await this.unet.prepare(next, { signal, conditioning: embedded })
    }
    const timestep = scheduler.timesteps[index]
    const joined = concatChannels([latents, ...extra])
    if (!isGuided(request) || !inInterval(request.guidanceInterval, index, scheduler))
      return this.#call(joined, timestep, this.#conditional)
    const { count, guidanceScale, guidanceRescale, imageGuidanceScale } = request
    if (rowsPerImage(request) === 2)
      return guide(await this.#call(twice(joined), timestep, conditioning), guidanceScale, guidanceRescale)
    const unconditional = conditioningRows(conditioning, 0, count)
    const without = concatChannels([latents, ...extra.map(({ shape }) => zeros(shape))])
    const batch = stack([joined, joined, without])
    const conditions = stackConditioning([this.#conditional, unconditional, unconditional])
    const prediction = await this.#call(batch, timestep, conditions)
    return guideEdit(prediction, guidanceScale, imageGuidanceScale, guidanceRescale)
  }

  #call(latents: Tensor, timestep: number, conditions: Conditioning): Promise<Tensor> {
    const { tokenMerging } = this.request
    const deepCache = this.#deepCache
    return this.unet.predictFrom(
      { latents, timestep, ...conditions, tokenMerging, deepCache },
      { signal: this.input.signal },
    )
  }

  /** Frees the deep features. Can be called repeatedly. */
  dispose(): void {
    this.#deepCache?.dispose()
  }
}
