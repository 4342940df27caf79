import { inInterval, type GenerateRequest } from '../options/index.js'
import { native } from '../native.js'
import { RemoteTensor } from '../remote-tensor.js'
import type { Scheduler, Tensor } from '../types.js'
import { conditioningRows, stackConditioning, type Conditioning } from './conditioning.js'
import type { Controls } from './controls.js'
import { DeepCache } from './deep-cache.js'
import type { Preconditioning } from './precondition.js'
import type { ImagePrompts } from './image-prompts.js'
import { guide, guideEdit } from './guidance.js'
import { isGuided, rowsPerImage } from './prompt.js'
import { broadcastRows, concatChannels, repeatBatch, rows, stack, zeros } from './tensors.js'
import type { Unet } from './unet.js'

/** What the predictions of a run depend on beside the latents. */
export interface DenoiserInput {
  conditioning: Conditioning
  /** See furtherChannels(). */
  further?: Tensor
  /** Undefined: nothing guides it. */
  controls?: Controls
  images?: ImagePrompts
  /** Of a UNet whose output is not the prediction. */
  precondition?: Preconditioning
  scheduler: Pick<Scheduler, 'timesteps' | 'order'>
  /** The UNet calls that it makes are a part of the schedule: from the index `begin` to before `end`. */
  begin: number
  end: number
  signal: AbortSignal
}

/**
 * Input channels that the scheduler does not scale, of all rows of a prediction with guidance in their order. One without it
 * has the first rows; one with neither text nor image has zeros.
 */
export function furtherChannels(extra: readonly Tensor[], request: GenerateRequest): Tensor | undefined {
  if (extra.length === 0) return undefined
  const [first, ...more] = extra
  const given = concatChannels([broadcastRows(first, request.count), ...more])
  const times = rowsPerImage(request)
  return times === 3 ? stack([given, given, zeros(given.shape)]) : repeatBatch(given, times)
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
    const { scheduler, conditioning, controls, begin, end, signal, precondition } = input
    const timestepOf = (at: number) => precondition?.timestep(at) ?? scheduler.timesteps[at]
    if ((index - begin) % this.#prepared === 0) {
      const count = Math.min(this.#prepared, end - index)
      const next = Array.from({ length: count }, (_, i) => timestepOf(index + i))
      const { context: _, ...embedded } = conditioning
      await this.unet.prepare(next, { signal, conditioning: embedded })
      await controls?.prepare(next, embedded)
    }
    const call = async (times: number, conditions: Conditioning, first: number) => {
      const repeated = repeatBatch(latents, times)
      const step = [index - begin, end - begin] as const
      const output = await this.#call(repeated, timestepOf(index), conditions, { first, step })
      return precondition ? precondition.denoised(repeated, output, index) : output
    }
    if (!isGuided(request) || !inInterval(request.guidanceInterval, index, scheduler))
      return call(1, this.#conditional, 0)
    const { count, guidanceScale, guidanceRescale, imageGuidanceScale } = request
    if (rowsPerImage(request) === 2)
      return guide(await call(2, conditioning, count), guidanceScale, guidanceRescale)
    const unconditional = conditioningRows(conditioning, 0, count)
    const conditions = stackConditioning([this.#conditional, unconditional, unconditional])
    return guideEdit(await call(3, conditions, 0), guidanceScale, imageGuidanceScale, guidanceRescale)
  }

  /** Predicts for all rows of `latents`, which repeat the run's; `first` is the first row of the conditional prediction. */
  async #call(
    latents: Tensor,
    timestep: number,
    conditions: Conditioning,
    { first, step }: { first: number; step: readonly [index: number, steps: number] },
  ): Promise<Tensor> {
    const { count, tokenMerging } = this.request
    const { controls, images: prompts, further, signal } = this.input
    const [n] = latents.shape
    const added = await controls?.added(latents, timestep, conditions, { first, count }, step)
    const images = prompts?.forCall(n, { first, count }, step)
    const cacheKey = [controls?.active(...step), prompts?.active(...step)].join(';')
    const deepCache = this.#deepCache
    // A device has the further channels already.
    const isWhole = !further || latents instanceof RemoteTensor
    const batch = isWhole ? latents : concatChannels([latents, rows(further, 0, n)])
    return this.unet.predictFrom(
      { latents: batch, timestep, ...conditions, tokenMerging, deepCache, ...added, images, cacheKey },
      { signal },
    )
  }

  /** Frees the deep features. Can be called repeatedly. */
  async dispose(): Promise<void> {
    await this.#deepCache?.dispose()
  }
}
