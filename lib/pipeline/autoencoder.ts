import { throwIfAborted } from '../abort.js'
import { checkObject, checkSignal, checkTensor } from '../check.js'
import { DiffusionError } from '../errors.js'
import { cancellable } from '../native-call.js'
import { native, type NativeAutoencoder, type NativeVae, type VaeConfig } from '../native.js'
import type { Tensor } from '../types.js'
import type { ModelDescription } from '../weights/model-description.js'
import { checkPrecision, type LoadOptions } from '../options.js'
import { openModel } from '../weights/index.js'
import { loadUnlessAborted, Component, type CallOptions } from './component.js'
import { rows, stack } from './tensors.js'
import { bytesAllowed, checkTiling, type TilingOption } from '../tiling.js'

/** A call that can work band by band. */
export interface TiledCallOptions extends CallOptions {
  /** Default: in bands only where the whole image would take much memory. */
  tiling?: TilingOption
}

/** How an autoencoder is opened alone. */
export type AutoencoderOptions = Pick<LoadOptions, 'precision' | 'signal'>

/** What AutoencoderKL, VqModel and AutoencoderTiny share: images to latents and back, image by image. */
export abstract class Autoencoder<
  Native extends NativeAutoencoder = NativeVae,
  Config extends { inChannels: number; outChannels: number } = VaeConfig,
> extends Component<Native> {
  readonly config: Readonly<Config>
  /** Pixels a side of one latent: 8 for Stable Diffusion. */
  readonly factor: number

  protected constructor(model: Native, config: Config, levels: number, name: string) {
    super(model, name)
    this.config = config
    this.factor = 2 ** (levels - 1)
  }

  /** Images [n, inChannels, h, w] to [n, c, h/factor, w/factor]. One image at a time, so memory does not grow with n. */
  protected async encodeRows(image: Tensor, options: TiledCallOptions): Promise<Tensor> {
    checkObject(options, 'options', ['signal', 'tiling'])
    const signal = checkSignal(options.signal)
    const option = checkTiling(options.tiling, 'tiling')
    const f = this.factor
    const [n, , h, w] = checkTensor(image, 'image', [-1, this.config.inChannels, -1, -1]).shape
    for (const [i, side] of [h, w].entries()) {
      if (side % f !== 0) {
        throw new RangeError(`Expected a multiple of ${f} for image.shape[${i + 2}] but received ${side}`)
      }
    }
    const maxBytes = bytesAllowed(option, h * w)
    const parts: Tensor[] = []
    for (let i = 0; i < n; i++) {
      const data = await this.call(signal, (model, cancel) =>
        model.encode(rows(image, i).data, 1, h, w, maxBytes, cancel),
      )
      const plane = (h / f) * (w / f)
      parts.push({ data, shape: [1, data.length / plane, h / f, w / f] })
    }
    return stack(parts)
  }

  /** Latents [n, c, h, w] to images [n, outChannels, factor·h, factor·w]. */
  protected async decodeRows(latents: Tensor, options: TiledCallOptions): Promise<Tensor> {
    checkObject(options, 'options', ['signal', 'tiling'])
    const signal = checkSignal(options.signal)
    const option = checkTiling(options.tiling, 'tiling')
    const [n, , h, w] = latents.shape
    const maxBytes = bytesAllowed(option, h * w * this.factor ** 2)
    const parts: Tensor[] = []
    for (let i = 0; i < n; i++) {
      const data = await this.call(signal, (model, cancel) =>
        model.decode(rows(latents, i).data, 1, h, w, maxBytes, cancel),
      )
      parts.push({ data, shape: [1, this.config.outChannels, h * this.factor, w * this.factor] })
    }
    return stack(parts)
  }

  /** Bytes of working memory that decoding latents of h × w takes. */
  decodeBytes(h: number, w: number, option?: TilingOption): number {
    return this.model.decodeBytes(1, h, w, bytesAllowed(option, h * w * this.factor ** 2))
  }

  /** Bytes of working memory that encoding an image to latents of h × w takes. */
  encodeBytes(h: number, w: number, option?: TilingOption): number {
    const [y, x] = [h * this.factor, w * this.factor]
    return this.model.encodeBytes(1, y, x, bytesAllowed(option, y * x))
  }
}

/** The variational autoencoder of latent diffusion: images in −1…1 ⇄ latents. */
export class AutoencoderKL extends Autoencoder {
  /** Latents are multiplied with this before they enter diffusion, and divided by it before decoding. */
  readonly scalingFactor: number

  private constructor(model: NativeVae, { config, scalingFactor }: NonNullable<ModelDescription['vae']>) {
    super(model, config, config.blockChannels.length, 'autoencoder')
    this.scalingFactor = scalingFactor
  }

  /** A model file or folder that holds an autoencoder, alone or with the rest. */
  static async load(path: string, options: AutoencoderOptions = {}): Promise<AutoencoderKL> {
    const load = async () => AutoencoderKL.from(await describeVae(path, options), options)
    return loadUnlessAborted(checkAutoencoderOptions(options).signal, load())
  }

  /** @internal */
  static async from(
    description: NonNullable<ModelDescription['vae']>,
    { signal }: CallOptions = {},
  ): Promise<AutoencoderKL> {
    if (description.config.codebook) {
      throw new DiffusionError(
        'UNSUPPORTED_MODEL',
        'Expected an AutoencoderKL but found a VQModel: use VqModel.load()',
      )
    }
    const model = await cancellable(signal, (cancel) =>
      native().loadVae(description.config, description.source, cancel),
    )
    return new AutoencoderKL(model, description)
  }

  /** Images [n, 3, h, w] in −1…1 to the distribution of their latents, unscaled: two tensors [n, 4, h/8, w/8]. */
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

  /** Latents [n, 4, h, w], unscaled as for diffusers' vae.decode, to images [n, 3, 8h, 8w] (about −1…1, not clamped). */
  async decode(latents: Tensor, options: TiledCallOptions = {}): Promise<Tensor> {
    checkTensor(latents, 'latents', [-1, this.config.latentChannels, -1, -1])
    return this.decodeRows(latents, options)
  }
}

/** The options, checked. */
export function checkAutoencoderOptions(options: unknown): AutoencoderOptions {
  const { precision, signal } = checkObject(options, 'options', ['precision', 'signal'])
  return { precision: checkPrecision(precision), signal: checkSignal(signal) }
}

/** The autoencoder in a file or folder. */
export async function describeVae(
  path: string,
  options: AutoencoderOptions,
): Promise<NonNullable<ModelDescription['vae']>> {
  const { precision, signal } = checkAutoencoderOptions(options)
  if (typeof path !== 'string') throw new TypeError(`Expected string for path but received ${typeof path}`)
  throwIfAborted(signal)
  const { vae } = await openModel(path)
  if (!vae) throw new DiffusionError('UNSUPPORTED_MODEL', `${path}: no autoencoder found`)
  if (precision) vae.source.precision = precision
  return vae
}
