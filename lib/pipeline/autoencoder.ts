import { throwIfAborted } from '../abort.js'
import { checkInteger, checkObject, checkSignal, copyTensor } from '../check.js'
import { DiffusionError } from '../errors.js'
import { localPath } from '../hub/index.js'
import { Image } from '../image/image.js'
import { cancellable } from '../native-call.js'
import {
  native,
  type ModelSource,
  type NativeAutoencoder,
  type NativeVae,
  type VaeConfig,
} from '../native.js'
import { loadOnDevice, type Placement } from '../device/index.js'
import type { DeviceName, Tensor } from '../types.js'
import type { ModelDescription } from '../models/model-description.js'
import {
  type LoadOptions,
  type TilingOption,
  bytesAllowed,
  checkDevice,
  checkKernels,
  checkPrecision,
  checkTiling,
  maxSide,
} from '../options/index.js'
import { openModel } from '../models/index.js'
import { loadUnlessAborted, setArithmetic, Component, type CallOptions } from './component.js'
import { rows, stack } from './tensors.js'

/** Options of calls that can process an image in bands of rows. */
export interface TiledCallOptions extends CallOptions {
  /** Default: in bands only if the whole image would take much memory. */
  tiling?: TilingOption
}

/** Options of loading an autoencoder by itself. */
export type AutoencoderOptions = Pick<LoadOptions, 'device' | 'precision' | 'kernels' | 'signal'>

/** The common part of AutoencoderKL, VqModel and AutoencoderTiny: images to latents and back, one image at a time. */
export abstract class Autoencoder<
  Native extends NativeAutoencoder = NativeVae,
  Config extends { inChannels: number; outChannels: number } = VaeConfig,
> extends Component<Native> {
  readonly config: Readonly<Config>
  /** Pixels along one side for each latent: 8 for Stable Diffusion. */
  readonly factor: number
  /** Bytes of its GPU's memory. */
  readonly #gpuTotal?: number

  protected constructor(model: Native, config: Config, levels: number, name: string, device: DeviceName) {
    super(model, name, device)
    this.config = config
    this.factor = 2 ** (levels - 1)
    this.#gpuTotal = model.deviceMemory()?.total
  }

  /** Images [n, inChannels, h, w] to [n, c, h/factor, w/factor], one at a time, so that memory does not grow with n. */
  protected async encodeRows(image: Tensor, options: TiledCallOptions): Promise<Tensor> {
    const { signal, option } = checkTiledCall(options)
    const f = this.factor
    const pixels = copyTensor(image, 'image', [-1, this.config.inChannels, -1, -1])
    const [n, , h, w] = pixels.shape
    for (const [i, side] of [h, w].entries()) {
      if (side % f !== 0) {
        throw new RangeError(`Expected a multiple of ${f} for image.shape[${i + 2}] but received ${side}`)
      }
    }
    this.requireMemory(
      () => this.encodeBytes(h / f, w / f, option),
      `A call for [${pixels.shape.join(', ')}]`,
    )
    const parts: Tensor[] = []
    for (let i = 0; i < n; i++) {
      const data = await this.call(signal, async (model, cancel) => {
        const maxBytes = await this.#bytesAllowedNow(model, option, h * w, (most) =>
          model.encodeBytes(1, h, w, most),
        )
        return model.encode(rows(pixels, i).data, 1, h, w, maxBytes, cancel)
      })
      const plane = (h / f) * (w / f)
      parts.push({ data, shape: [1, data.length / plane, h / f, w / f] })
    }
    return stack(parts)
  }

  /** Latents [n, channels, h, w] to images [n, outChannels, factor·h, factor·w]. */
  protected async decodeRows(given: Tensor, channels: number, options: TiledCallOptions): Promise<Tensor> {
    const { signal, option } = checkTiledCall(options)
    const latents = copyTensor(given, 'latents', [-1, channels, -1, -1])
    const [n, , h, w] = latents.shape
    this.#requireMemoryToDecode(latents, option)
    const parts: Tensor[] = []
    for (let i = 0; i < n; i++) {
      const data = await this.call(signal, async (model, cancel) => {
        const maxBytes = await this.#bytesToDecode(model, option, h, w)
        return model.decode(rows(latents, i).data, 1, h, w, maxBytes, cancel)
      })
      parts.push({ data, shape: [1, this.config.outChannels, h * this.factor, w * this.factor] })
    }
    return stack(parts)
  }

  /**
   * Latents [1, channels, h, w], which stay as they are meanwhile, to an image; and whether all numbers were finite. Takes
   * less time of the JavaScript thread than Image.fromTensor().
   *
   * @internal
   */
  async decodeImage(
    latents: Tensor,
    { signal, tiling }: TiledCallOptions,
  ): Promise<{ image: Image; finite: boolean }> {
    const [, , h, w] = latents.shape
    this.#requireMemoryToDecode(latents, tiling)
    const { bytes, finite } = await this.call(signal, async (model, cancel) => {
      const maxBytes = await this.#bytesToDecode(model, tiling, h, w)
      return model.decodeImage(latents.data, 1, h, w, maxBytes, cancel)
    })
    return { image: new Image(w * this.factor, h * this.factor, bytes), finite }
  }

  #requireMemoryToDecode({ shape }: Tensor, tiling: TilingOption | undefined): void {
    const [n, , h, w] = shape
    const images = 4 * n * this.config.outChannels * h * w * this.factor ** 2
    this.requireMemory(() => this.decodeBytes(h, w, tiling) + 2 * images, `A call for [${shape.join(', ')}]`)
  }

  #bytesToDecode(
    model: Native,
    tiling: TilingOption | undefined,
    h: number,
    w: number,
  ): Promise<number | null> {
    return this.#bytesAllowedNow(model, tiling, h * w * this.factor ** 2, (most) =>
      model.decodeBytes(1, h, w, most),
    )
  }

  /**
   * Bytes of working memory for decoding latents of h × w.
   *
   * @throws {TypeError | RangeError} a size is not an integer of 1…2^20
   */
  decodeBytes(h: number, w: number, option?: TilingOption): number {
    checkLatentSize(h, w)
    const maxBytes = this.bytesAllowed(checkTiling(option, 'tiling'), h * w * this.factor ** 2)
    return this.model.decodeBytes(1, h, w, maxBytes)
  }

  /**
   * Bytes of working memory for encoding an image to latents of h × w.
   *
   * @throws as decodeBytes()
   */
  encodeBytes(h: number, w: number, option?: TilingOption): number {
    checkLatentSize(h, w)
    const [y, x] = [h * this.factor, w * this.factor]
    return this.model.encodeBytes(1, y, x, this.bytesAllowed(checkTiling(option, 'tiling'), y * x))
  }

  /**
   * Maximum working memory for an image with this number of pixels; null: no limit. `free`: bytes of a GPU's memory. Without
   * them it is the limit where nothing else takes that memory, so that an estimate does not depend on when it is made.
   *
   * @internal
   */
  bytesAllowed(option: TilingOption | undefined, pixels: number, free?: number): number | null {
    const total = this.#gpuTotal
    return bytesAllowed(option, { pixels, gpu: total === undefined ? undefined : { total, free } })
  }

  /**
   * The limit of a call. Memory that this autoencoder keeps from its last call counts as free, so that equal calls have
   * equal limits, and results with the same rounding.
   */
  async #bytesAllowedNow(
    model: Native,
    option: TilingOption | undefined,
    pixels: number,
    needed: (most: number | null) => number,
  ): Promise<number | null> {
    const now = () => this.bytesAllowed(option, pixels, model.deviceMemory()?.free)
    const most = this.bytesAllowed(option, pixels)
    const limit = now()
    if (limit === most || limit === null || needed(most) <= limit) return most
    await model.trim()
    return now()
  }
}

/** The variational autoencoder of latent diffusion (Rombach et al. 2022): images in −1…1 to latents and back. */
export class AutoencoderKL extends Autoencoder {
  /** Latents are multiplied by this factor for diffusion, and divided by it before they are decoded. */
  readonly scalingFactor: number

  private constructor(
    model: NativeVae,
    { config, scalingFactor }: NonNullable<ModelDescription['vae']>,
    device: DeviceName,
  ) {
    super(model, config, config.blockChannels.length, 'autoencoder', device)
    this.scalingFactor = scalingFactor
  }

  /**
   * Loads an autoencoder.
   *
   * @param path a model file or folder that contains an autoencoder, by itself or among other components
   * @throws {DiffusionError} as DiffusionPipeline.load()
   */
  static async load(path: string, options: AutoencoderOptions = {}): Promise<AutoencoderKL> {
    return loadAlone(
      path,
      options,
      (local) => describeVae(path, local),
      (...given) => AutoencoderKL.from(...given),
    )
  }

  /** @internal */
  static async from(
    description: NonNullable<ModelDescription['vae']>,
    placement: Placement,
    { signal }: CallOptions = {},
  ): Promise<AutoencoderKL> {
    if (description.config.codebook) {
      throw new DiffusionError(
        'UNSUPPORTED_MODEL',
        'Expected an AutoencoderKL but found a VQModel: use VqModel.load()',
      )
    }
    const model = await cancellable(signal, (cancel) =>
      native().loadVae(description.config, { ...description.source, device: placement.cuda }, cancel),
    )
    return new AutoencoderKL(model, description, placement.device)
  }

  /**
   * Images [n, 3, h, w] in −1…1 to the normal distribution of their unscaled latents, two tensors [n, 4, h/8, w/8].
   *
   * @throws {RangeError} a side is not a multiple of `factor`
   */
  async encode(image: Tensor, options: TiledCallOptions = {}): Promise<{ mean: Tensor; logvar: Tensor }> {
    const moments = await this.encodeRows(image, options)
    const [n, c2, h, w] = moments.shape
    const half = (moments.data.length / n) >> 1
    const part = (offset: number) =>
      stack(
        Array.from({ length: n }, (_, i) => {
          const at = (2 * i + offset) * half
          return { data: moments.data.slice(at, at + half), shape: [1, c2 / 2, h, w] }
        }),
      )
    return { mean: part(0), logvar: part(1) }
  }

  /**
   * Unscaled latents [n, 4, h, w], as for diffusers' vae.decode(), to images [n, 3, 8h, 8w] in about −1…1, not clamped.
   */
  async decode(latents: Tensor, options: TiledCallOptions = {}): Promise<Tensor> {
    return this.decodeRows(latents, this.config.latentChannels, options)
  }
}

function checkTiledCall(options: unknown): { signal?: AbortSignal; option?: TilingOption } {
  const { signal, tiling } = checkObject(options, 'options', ['signal', 'tiling'])
  return { signal: checkSignal(signal), option: checkTiling(tiling, 'tiling') }
}

/** The sizes of latents for which memory is asked. */
export function checkLatentSize(h: unknown, w: unknown): void {
  checkInteger(h, 'h', 1, maxSide)
  checkInteger(w, 'w', 1, maxSide)
}

/** Checks the options. */
export function checkAutoencoderOptions(options: unknown): AutoencoderOptions {
  const keys = ['device', 'precision', 'kernels', 'signal'] as const
  const { device, precision, kernels, signal } = checkObject(options, 'options', keys)
  return {
    device: checkDevice(device),
    precision: checkPrecision(precision),
    kernels: checkKernels(kernels),
    signal: checkSignal(signal),
  }
}

/**
 * Loads a component that is not part of a pipeline.
 *
 * @param open describes what is in a local file or folder
 */
export async function loadAlone<
  Description extends { source: ModelSource },
  Loaded extends { dispose(): Promise<void> },
>(
  path: string,
  options: AutoencoderOptions,
  open: (path: string) => Promise<Description>,
  from: (description: Description, placement: Placement, options: CallOptions) => Promise<Loaded>,
): Promise<Loaded> {
  const { device, precision, kernels, signal } = checkAutoencoderOptions(options)
  if (typeof path !== 'string') throw new TypeError(`Expected string for path but received ${typeof path}`)
  const load = async () => {
    throwIfAborted(signal)
    const description = await open(await localPath(path, signal))
    setArithmetic(description.source, { precision, kernels })
    const { source } = description
    return loadOnDevice({ device, precision, kernels, signal, sources: [source] }, (placement) =>
      from(description, placement, { signal }),
    )
  }
  return loadUnlessAborted(signal, load())
}

/**
 * Opens the autoencoder in a file or folder.
 *
 * @param given how messages name it
 */
export async function describeVae(
  given: string,
  path: string,
): Promise<NonNullable<ModelDescription['vae']>> {
  const { vae } = await openModel(path)
  if (!vae) throw new DiffusionError('UNSUPPORTED_MODEL', `${given}: no autoencoder found`)
  return vae
}
