import { checkTokenMerging } from '../options/index.js'
import { checkInteger, checkObject, checkSignal, copyTensor, expectation } from '../check.js'
import { cancellable } from '../native-call.js'
import { native, type NativeUnet, type UnetConfig } from '../native.js'
import type { Placement } from '../device/index.js'
import type { DeviceName, Tensor } from '../types.js'
import type { ModelDescription } from '../models/model-description.js'
import { Component, type CallOptions } from './component.js'
import type { Conditioning } from './conditioning.js'
import { DeepCache } from './deep-cache.js'

/** The input of a prediction. */
export interface UnetInput extends Conditioning {
  /** [n, inChannels, h, w], as scaled by scheduler.scaleModelInput(). */
  latents: Tensor
  /** One timestep for all rows, or one for each row: 0…999, fractions allowed. */
  timestep: number | ArrayLike<number>
  /** Fraction of the tokens, 0…0.75, that are merged before self-attention at the highest resolution. Default: 0. */
  tokenMerging?: number
  /** Reuses deep features of earlier calls. Default: everything is computed. */
  deepCache?: DeepCache
}

/**
 * UNet2DConditionModel of diffusers: noisy latents, timestep and context to the prediction (noise, velocity or sample).
 */
export class Unet extends Component<NativeUnet> {
  readonly config: Readonly<UnetConfig>
  /** Largest `depth` of a DeepCache: all layers of the decoder but one. */
  readonly maxDepth: number

  private constructor(model: NativeUnet, config: UnetConfig, device: DeviceName) {
    super(model, 'UNet', device)
    this.config = config
    this.maxDepth = model.maxDepth
  }

  /** @internal */
  static async load(
    { config, source }: NonNullable<ModelDescription['unet']>,
    placement: Placement,
    { signal }: CallOptions = {},
  ): Promise<Unet> {
    const placed = { ...source, device: placement.cuda }
    const model = await cancellable(signal, (cancel) => native().loadUnet(config, placed, cancel))
    return new Unet(model, config, placement.device)
  }

  /**
   * Predicts the noise (or the velocity or sample, whatever the model was trained for), [n, outChannels, h, w].
   *
   * @throws {TypeError} a wrong type
   * @throws {RangeError} a wrong shape, or a value out of bounds
   * @throws {DiffusionError} OUT_OF_MEMORY, DISPOSED; IO if weights are streamed and their file has changed
   */
  async predict(input: UnetInput, options: CallOptions = {}): Promise<Tensor> {
    checkObject(input, 'input', ['latents', 'timestep', 'context', 'tokenMerging', 'deepCache'])
    checkObject(options, 'options', ['signal'])
    const signal = checkSignal(options.signal)
    const { inChannels, outChannels, contextWidth } = this.config
    const latents = copyTensor(input.latents, 'latents', [-1, inChannels, -1, -1])
    const [n, , h, w] = latents.shape
    const context = copyTensor(input.context, 'context', [n, -1, contextWidth])
    const timesteps = toTimesteps(input.timestep, n)
    const tokenMerging = checkTokenMerging(input.tokenMerging)
    const deepCache = this.#checkDeepCache(input.deepCache)
    const data = await this.call(signal, (model, cancel) => {
      const conditioning = { timesteps, context: context.data, contextLength: context.shape[1] }
      const options = { tokenMerging, ...deepCache?.next(latents.shape) }
      return model.predict({ latents: latents.data, n, h, w, conditioning, options }, cancel)
    })
    return { data, shape: [n, outChannels, h, w] }
  }

  /**
   * Computes ahead, all at once, what depends on the timesteps alone. Without it, predict() does that for each timestep
   * and reads the same weights every time; the results are the same. At most 64 timesteps are kept, until trim().
   */
  async prepare(timesteps: ArrayLike<number>, options: CallOptions = {}): Promise<void> {
    checkObject(options, 'options', ['signal'])
    const signal = checkSignal(options.signal)
    if (typeof timesteps !== 'object' || timesteps === null || typeof timesteps.length !== 'number') {
      throw new TypeError(expectation('array of numbers', 'timesteps', timesteps))
    }
    const list = toTimesteps(timesteps, timesteps.length)
    if (list.length === 0) return
    await this.call(signal, (model, cancel) => model.prepare({ timesteps: list, n: list.length }, cancel))
  }

  /**
   * Bytes of working memory that predict() takes for n latents of h × w and contexts of `length`. With `depth`, the
   * features of a DeepCache are included.
   */
  workingBytes(
    n: number,
    h: number,
    w: number,
    length: number,
    options: { tokenMerging?: number; depth?: number } = {},
  ): number {
    checkObject(options, 'options', ['tokenMerging', 'depth'])
    const { depth, ...rest } = options
    const tokenMerging = checkTokenMerging(rest.tokenMerging)
    const deep = depth === undefined ? {} : { depth: checkInteger(depth, 'depth', 0, this.maxDepth) }
    return this.model.workingBytes({
      n,
      h,
      w,
      conditioning: { contextLength: length },
      options: { tokenMerging, ...deep },
    })
  }

  #checkDeepCache(value: unknown): DeepCache | undefined {
    if (value === undefined) return undefined
    if (!(value instanceof DeepCache)) throw new TypeError(expectation('DeepCache', 'deepCache', value))
    checkInteger(value.depth, 'deepCache.depth', 1, this.maxDepth)
    return value
  }
}

function toTimesteps(value: unknown, n: number): Float32Array {
  const list =
    typeof value === 'number'
      ? new Float32Array(n).fill(value)
      : Float32Array.from(value as ArrayLike<number>)
  if (list.length !== n) throw new RangeError(expectation(`a number or ${n} of them`, 'timestep', value))
  if (!list.every(Number.isFinite)) throw new RangeError(expectation('finite numbers', 'timestep', value))
  return list
}
