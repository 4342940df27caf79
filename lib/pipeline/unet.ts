import { checkTokenMerging, maxSide } from '../options/index.js'
import {
  checkInteger,
  checkNumbers,
  checkObject,
  checkSignal,
  checkTensor,
  copyTensor,
  expectation,
  isArray,
  isReadable,
} from '../check.js'
import { cancellable } from '../native-call.js'
import {
  native,
  type KeptTensors,
  type NativeConditioning,
  type NativeFeatures,
  type NativeInputs,
  type NativeImagePrompt,
  type NativeUnet,
  type UnetConfig,
} from '../native.js'
import type { Placement } from '../device/index.js'
import type { DeviceName, Tensor } from '../types.js'
import type { ModelDescription } from '../models/model-description.js'
import { checkLatentSize } from './autoencoder.js'
import { Component, type CallOptions } from './component.js'
import { embeddedKeys, type Conditioning, type EmbeddedConditioning } from './conditioning.js'
import { DeepCache } from './deep-cache.js'
import { DeviceTensor, DeviceTensors } from './device-tensors.js'
import { stack } from './tensors.js'

/** Rows of a batch for which memory can be asked: more than two for each image of a run. */
const maxRows = 1024

/** Maximum number of timesteps that are prepared at once. */
const MAX_TIMESTEPS = 10_000

/** The input of a prediction. */
export interface UnetInput extends Conditioning {
  /** [n, inChannels, h, w], as scaled by scheduler.scaleModelInput(). */
  latents: Tensor
  /** One timestep for all rows, or one for each row: 0…999, fractions allowed; log(σ)/4 for the ×2 latent upscaler. */
  timestep: number | ArrayLike<number>
  /** Fraction of the tokens, 0…0.75, that are merged before self-attention at the highest resolution. Default: 0. */
  tokenMerging?: number
  /** Reuses deep features of earlier calls. Default: everything is computed. */
  deepCache?: DeepCache
  /** @internal What ControlNets add. */
  residuals?: KeptTensors
  /** @internal What IP-Adapters add. */
  images?: NativeImagePrompt[]
  /** @internal Those of T2I-Adapters. */
  features?: NativeFeatures[]
  /** @internal What ControlLLLites change. */
  inputs?: NativeInputs[]
  /** @internal Features of a DeepCache are reused in calls with the same key only. */
  cacheKey?: string
}

/**
 * UNet2DConditionModel of diffusers: noisy latents, timestep and context to the prediction (noise, velocity or sample).
 */
export class Unet extends Component<NativeUnet> {
  readonly config: Readonly<UnetConfig>
  /** Largest `depth` of a DeepCache: all layers of the decoder but one. */
  readonly maxDepth: number
  /** Both sides of the latents must be multiples of this. */
  readonly sideMultiple: number
  /** The last shape that was found to fit into memory. */
  #fits = ''

  private constructor(model: NativeUnet, config: UnetConfig, device: DeviceName, base?: Unet) {
    super(model, 'UNet', device, base)
    this.config = config
    this.maxDepth = model.maxDepth
    this.sideMultiple = config.kBlocks ? 2 ** (config.blockChannels.length - 1) : 1
  }

  /**
   * @param options.base the UNet that this one is a variant of, with which it shares what did not change
   * @internal
   */
  static async load(
    { config, source }: NonNullable<ModelDescription['unet']>,
    placement: Placement,
    { signal, base }: CallOptions & { base?: Unet } = {},
  ): Promise<Unet> {
    const placed = { ...source, device: placement.cuda }
    const model = await cancellable(signal, (cancel) =>
      native().loadUnet(config, placed, cancel, base?.model),
    )
    return new Unet(model, config, placement.device, base)
  }

  /**
   * Predicts the noise (or the velocity or sample, whatever the model was trained for), [n, outChannels, h, w].
   *
   * @throws {TypeError} a wrong type
   * @throws {RangeError} a wrong shape, or a value out of bounds
   * @throws {DiffusionError} OUT_OF_MEMORY, DISPOSED; IO if weights are streamed and their file has changed
   */
  async predict(input: UnetInput, options: CallOptions = {}): Promise<Tensor> {
    return this.#predict(input, options, false)
  }

  /**
   * predict() with a context that nobody changes meanwhile: it is not copied. For hundreds of images it has hundreds of
   * megabytes.
   *
   * @internal
   */
  async predictFrom(input: UnetInput, options: CallOptions): Promise<Tensor> {
    return this.#predict(input, options, true)
  }

  async #predict(input: UnetInput, options: CallOptions, owned: boolean): Promise<Tensor> {
    const given = checkObject(input, 'input', [
      'latents',
      'timestep',
      'context',
      ...embeddedKeys,
      'tokenMerging',
      'deepCache',
      ...(owned ? ['residuals', 'features', 'inputs', 'images', 'cacheKey'] : []),
    ])
    const signal = checkSignal(checkObject(options, 'options', ['signal']).signal)
    const { inChannels, outChannels, contextWidth } = this.config
    const { latents: asked } = given
    const remote = owned && asked instanceof DeviceTensor ? asked : undefined
    const latents = remote ?? copyTensor(asked, 'latents', [-1, inChannels, -1, -1])
    const [n, , h, w] = latents.shape
    const context = (owned ? checkTensor : copyTensor)(given.context, 'context', [n, -1, contextWidth])
    const { timestep } = given
    const timesteps = checkNumbers(
      typeof timestep === 'number' ? new Array(n).fill(timestep) : timestep,
      'timestep',
      { count: n },
    )
    const embedded = this.#checkEmbedded(given, n)
    const tokenMerging = this.#checkTokenMerging(given.tokenMerging)
    const deepCache = this.#checkDeepCache(given.deepCache)
    this.#checkSides(h, w)
    this.#requireFit(latents.shape, context.shape[1], tokenMerging)
    const data = await this.call(signal, (model, cancel) => {
      const conditioning = {
        timesteps,
        ...nativeConditions(embedded),
        context: context.data,
        contextLength: context.shape[1],
        ...(owned && input.residuals && { residuals: input.residuals }),
        ...(owned && input.images && { images: input.images }),
        ...(owned && input.features && { features: input.features }),
        ...(owned && input.inputs && { inputs: input.inputs }),
      }
      const options = { tokenMerging, ...deepCache?.next(latents.shape, owned ? input.cacheKey : undefined) }
      if (remote)
        return model.predict({ resident: remote.home.call(remote), n, h, w, conditioning, options }, cancel)
      return model.predict({ latents: latents.data, n, h, w, conditioning, options }, cancel)
    })
    if (remote) return remote.home.prediction(n)
    return { data: data!, shape: [n, outChannels, h, w] }
  }

  /**
   * Computes ahead, all at once, what depends on the timesteps and on what is embedded with them. Without it, predict()
   * does that for each timestep and reads the same weights every time; the results are the same. At most 64 timesteps
   * are kept, on the CPU until trim(); with several rows of conditions, as many fewer.
   *
   * @param timesteps at most 10,000, of which the first 64 count
   * @throws {TypeError | RangeError} something else
   */
  async prepare(
    timesteps: ArrayLike<number>,
    options: CallOptions & { conditioning?: EmbeddedConditioning } = {},
  ): Promise<void> {
    const { signal: asked, conditioning: conditions } = checkObject(options, 'options', [
      'signal',
      'conditioning',
    ])
    const signal = checkSignal(asked)
    const given = checkObject(conditions ?? {}, 'conditioning', embeddedKeys)
    const list = checkNumbers(timesteps, 'timesteps', { most: MAX_TIMESTEPS }).subarray(
      0,
      native().limits.preparedTimesteps,
    )
    if (list.length === 0) return
    const embedded = this.#checkEmbedded(given, -1)
    const tensors = Object.values(embedded)
    const m = tensors.length > 0 ? tensors[0].shape[0] : 1
    // Every timestep with every row of conditions.
    const repeated: EmbeddedConditioning = {}
    for (const key of embeddedKeys) {
      const tensor = embedded[key]
      if (tensor) repeated[key] = stack(new Array<Tensor>(list.length).fill(tensor))
    }
    const conditioning = {
      timesteps: Float32Array.from({ length: list.length * m }, (_, i) => list[Math.floor(i / m)]),
      ...nativeConditions(repeated),
    }
    const n = list.length * m
    await this.call(signal, (model, cancel) => model.prepare({ conditioning, n }, cancel))
  }

  /** Copies of the conditions that this model embeds, with n rows; −1: with any number. */
  #checkEmbedded(given: Record<string, unknown>, n: number): EmbeddedConditioning {
    let rows = n
    const { added, guidanceWidth, classEmbedding, kBlocks } = this.config
    const classWidth = classEmbedding?.kind === 'projection' ? classEmbedding.width : 1
    const widths = {
      pooled: added && -1,
      timeIds: added && -1,
      guidance: guidanceWidth === undefined ? undefined : 1,
      classes: classEmbedding && classWidth,
      timestepCond: kBlocks?.conditionWidth,
    }
    const checked: EmbeddedConditioning = {}
    for (const key of embeddedKeys) {
      const width = widths[key]
      if (given[key] === undefined && width !== undefined)
        throw new TypeError(expectation('tensor', key, given[key]))
      if (given[key] === undefined) continue
      if (width === undefined) throw new TypeError(`Expected no ${key}, as this UNet is not made for it`)
      checked[key] = copyTensor(given[key], key, [rows, width])
      rows = checked[key].shape[0]
    }
    if (added) {
      const found = checked.pooled!.shape[1] + checked.timeIds!.shape[1] * added.timeWidth
      if (found !== added.width) {
        throw new RangeError(
          `Expected a width of ${added.width} for pooled and timeIds (each id ${added.timeWidth}) but received ` +
            `${checked.pooled!.shape[1]} + ${checked.timeIds!.shape[1]} × ${added.timeWidth}`,
        )
      }
    }
    return checked
  }

  /**
   * Where a run with latents of this shape can keep its tensors from step to step; undefined on the CPU.
   *
   * @param further input channels of all rows of a prediction with guidance
   * @internal
   */
  keepTensors(shape: readonly number[], further?: Tensor): DeviceTensors | undefined {
    const elements = shape.reduce((product, size) => product * size, 1)
    const kept = this.model.residentTensors(shape[0], elements, further?.data.length ?? 0)
    return kept ? new DeviceTensors(kept, shape, further) : undefined
  }

  /**
   * Bytes of working memory that predict() takes for n latents of h × w and contexts of `length`. With `depth`, the
   * features of a DeepCache are included; `imageLengths` are the tokens of image prompts.
   *
   * @throws {TypeError | RangeError} a size is not an integer above 0, or too large
   */
  workingBytes(
    n: number,
    h: number,
    w: number,
    length: number,
    options: { tokenMerging?: number; depth?: number; imageLengths?: readonly number[] } = {},
  ): number {
    checkInteger(n, 'n', 1, maxRows)
    checkLatentSize(h, w)
    checkInteger(length, 'length', 1, maxSide)
    const {
      depth,
      tokenMerging: merging,
      imageLengths,
    } = checkObject(options, 'options', ['tokenMerging', 'depth', 'imageLengths'])
    const tokenMerging = this.#checkTokenMerging(merging)
    this.#checkSides(h, w)
    const deep = depth === undefined ? {} : { depth: checkInteger(depth, 'depth', 0, this.maxDepth) }
    return this.model.workingBytes({
      n,
      h,
      w,
      conditioning: {
        contextLength: length,
        ...(imageLengths !== undefined && { imageLengths: checkLengths(imageLengths) }),
      },
      options: { tokenMerging, ...deep },
    })
  }

  #checkTokenMerging(value: unknown): number {
    const ratio = checkTokenMerging(value)
    if (ratio > 0 && this.config.kBlocks)
      throw new RangeError(expectation('0, as this UNet merges no tokens,', 'tokenMerging', value))
    return ratio
  }

  /** A decoder of fixed filters doubles what the encoder has halved. */
  #checkSides(h: number, w: number): void {
    const { sideMultiple } = this
    if (h % sideMultiple !== 0 || w % sideMultiple !== 0)
      throw new RangeError(
        `Expected latents with sides that are multiples of ${sideMultiple} for this UNet but received ${w}×${h}`,
      )
  }

  /** Checks once for each shape whether a prediction fits into memory. */
  #requireFit(shape: readonly number[], length: number, tokenMerging: number): void {
    const [n, , h, w] = shape
    const asked = [n, h, w, length, tokenMerging].join()
    if (asked === this.#fits) return
    this.requireMemory(
      () => this.workingBytes(n, h, w, length, { tokenMerging }),
      `A prediction for [${shape.join(', ')}]`,
    )
    this.#fits = asked
  }

  #checkDeepCache(value: unknown): DeepCache | undefined {
    if (value === undefined) return undefined
    if (!isReadable(value) || !(value instanceof DeepCache))
      throw new TypeError(expectation('DeepCache', 'deepCache', value))
    checkInteger(value.depth, 'deepCache.depth', 1, this.maxDepth)
    return value
  }
}

function checkLengths(value: unknown): number[] {
  if (!isArray(value)) throw new TypeError(expectation('array', 'imageLengths', value))
  return Array.from(value, (length, i) => checkInteger(length, `imageLengths[${i}]`, 1, maxSide))
}

function nativeConditions({
  pooled,
  timeIds,
  guidance,
  classes,
  timestepCond,
}: EmbeddedConditioning): Omit<NativeConditioning, 'timesteps' | 'context' | 'contextLength'> {
  return {
    ...(pooled && { pooled: pooled.data, pooledWidth: pooled.shape[1] }),
    ...(timeIds && { timeIds: timeIds.data, timeIdCount: timeIds.shape[1] }),
    ...(guidance && { guidance: guidance.data }),
    ...(classes && { classes: classes.data }),
    ...(timestepCond && { timestepCond: timestepCond.data }),
  }
}
