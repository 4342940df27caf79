import { checkObject, checkSignal, checkTensor, expectation } from '../check.js'
import { native, type NativeUnet, type UnetConfig } from '../native.js'
import type { Tensor } from '../types.js'
import type { ModelDescription } from '../weights/model-description.js'
import { cancellable, Component, type CallOptions } from './component.js'

/** What the UNet is asked. */
export interface UnetInput {
  /** [n, inChannels, h, w], scaled as the scheduler wants it. */
  latents: Tensor
  /** One timestep for all rows, or one for each: 0…999, fractions allowed. */
  timestep: number | ArrayLike<number>
  /** [n, length, contextWidth]: what the cross-attention looks at. */
  context: Tensor
}

/** UNet2DConditionModel: noisy latents, timestep and context → the prediction (noise, velocity or sample). */
export class Unet extends Component<NativeUnet> {
  readonly config: Readonly<UnetConfig>

  private constructor(model: NativeUnet, config: UnetConfig) {
    super(model, 'UNet')
    this.config = config
  }

  /** @internal */
  static async load(
    { config, source }: NonNullable<ModelDescription['unet']>,
    { signal }: CallOptions = {},
  ): Promise<Unet> {
    return new Unet(await cancellable(signal, (cancel) => native().loadUnet(config, source, cancel)), config)
  }

  /** → [n, outChannels, h, w] */
  async predict(input: UnetInput, options: CallOptions = {}): Promise<Tensor> {
    checkObject(input, 'input', ['latents', 'timestep', 'context'])
    checkObject(options, 'options', ['signal'])
    const signal = checkSignal(options.signal)
    const { inChannels, outChannels, contextWidth } = this.config
    const latents = checkTensor(input.latents, 'latents', [-1, inChannels, -1, -1])
    const [n, , h, w] = latents.shape
    const context = checkTensor(input.context, 'context', [n, -1, contextWidth])
    const timesteps = toTimesteps(input.timestep, n)
    const data = await this.call(signal, (model, cancel) =>
      model.predict(latents.data, n, h, w, timesteps, context.data, context.shape[1], cancel),
    )
    return { data, shape: [n, outChannels, h, w] }
  }

  /**
   * Computes what depends on the timesteps alone ahead, all at once: predict() does it one by one, reading the same weights
   * each time. What predict() returns is the same. At most 64 timesteps are kept, until trim().
   */
  async prepare(timesteps: ArrayLike<number>, options: CallOptions = {}): Promise<void> {
    checkObject(options, 'options', ['signal'])
    const signal = checkSignal(options.signal)
    if (typeof timesteps !== 'object' || timesteps === null || typeof timesteps.length !== 'number') {
      throw new TypeError(expectation('array of numbers', 'timesteps', timesteps))
    }
    const list = toTimesteps(timesteps, timesteps.length)
    if (list.length === 0) return
    await this.call(signal, (model, cancel) => model.prepare(list, list.length, cancel))
  }

  /** Bytes of working memory that predict() takes for n latents of h × w and contexts of `length`. */
  workingBytes(n: number, h: number, w: number, length: number): number {
    return this.model.workingBytes(n, h, w, length)
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
