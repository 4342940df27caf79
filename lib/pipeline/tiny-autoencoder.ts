import { checkObject, checkSignal, checkTensor } from '../check.js'
import { DiffusionError } from '../errors.js'
import { native, type NativeTinyVae, type TinyVaeConfig } from '../native.js'
import type { Tensor } from '../types.js'
import { openModel } from '../weights/index.js'
import type { ModelDescription } from '../weights/model-description.js'
import { checkImageOptions, type ImageModelOptions, type TiledCallOptions } from './autoencoder.js'
import { abandonable, cancellable, Component } from './component.js'
import { rows, stack } from './tensors.js'
import { bytesAllowed, checkTiling, type TilingOption } from './tiling.js'

/**
 * A tiny autoencoder (TAESD): it stands in for the large one at a fraction of its time, with a little less detail. Its
 * latents are scaled as diffusion has them: no scaling factor comes between.
 */
export class AutoencoderTiny extends Component<NativeTinyVae> {
  readonly config: Readonly<TinyVaeConfig>
  /** Pixels a side of one latent: 8 for TAESD. */
  readonly factor: number

  private constructor(model: NativeTinyVae, config: TinyVaeConfig) {
    super(model, 'tiny autoencoder')
    this.config = config
    this.factor = 2 ** (config.decoderBlocks.length - 1)
  }

  /**
   * Loads one.
   *
   * @param path a diffusers folder, or a .safetensors or .gguf file with diffusers' names or the original ones; the
   *   decoder may be alone
   * @throws {DiffusionError} as DiffusionPipeline.load
   */
  static async load(path: string, options: ImageModelOptions = {}): Promise<AutoencoderTiny> {
    return abandonable(checkImageOptions(options).signal, AutoencoderTiny.#load(path, options))
  }

  static async #load(path: string, options: ImageModelOptions): Promise<AutoencoderTiny> {
    const { precision, signal } = checkImageOptions(options)
    if (typeof path !== 'string') throw new TypeError(`Expected string for path but received ${typeof path}`)
    signal?.throwIfAborted()
    const { tinyVae, architecture }: ModelDescription = await openModel(path)
    if (!tinyVae) {
      throw new DiffusionError(
        'UNSUPPORTED_MODEL',
        `${path}: expected a tiny autoencoder (TAESD), found ${architecture}`,
      )
    }
    if (precision) tinyVae.source.precision = precision
    const model = await cancellable(signal, (cancel) =>
      native().loadTinyVae(tinyVae.config, tinyVae.source, cancel),
    )
    return new AutoencoderTiny(model, tinyVae.config)
  }

  /**
   * Images [n, 3, h, w] in −1…1 to latents [n, 4, h/8, w/8].
   *
   * @throws {DiffusionError} UNSUPPORTED_MODEL: only the decoder was in the file
   */
  async encode(image: Tensor, options: TiledCallOptions = {}): Promise<Tensor> {
    const [, , h, w] = checkTensor(image, 'image', [-1, this.config.inChannels, -1, -1]).shape
    const f = this.factor
    for (const [i, side] of [h, w].entries()) {
      if (side % f !== 0) {
        throw new RangeError(`Expected a multiple of ${f} for image.shape[${i + 2}] but received ${side}`)
      }
    }
    const shape = [1, this.config.latentChannels, h / f, w / f]
    return this.#each(image, shape, options, h * w, (model, data, most, cancel) =>
      model.encode(data, 1, h, w, most, cancel),
    )
  }

  /** Latents [n, 4, h, w], scaled as diffusion has them, to images [n, 3, 8h, 8w] (about −1…1, not clamped). */
  async decode(latents: Tensor, options: TiledCallOptions = {}): Promise<Tensor> {
    const [, , h, w] = checkTensor(latents, 'latents', [-1, this.config.latentChannels, -1, -1]).shape
    const f = this.factor
    const shape = [1, this.config.outChannels, h * f, w * f]
    return this.#each(latents, shape, options, h * w * f * f, (model, data, most, cancel) =>
      model.decode(data, 1, h, w, most, cancel),
    )
  }

  /** One image after the other, so memory does not grow with n. */
  async #each(
    { data, shape: [n, ...rest] }: Tensor,
    shape: number[],
    options: TiledCallOptions,
    pixels: number,
    compute: (
      model: NativeTinyVae,
      data: Float32Array,
      most: number | null,
      cancel: Parameters<NativeTinyVae['decode']>[5],
    ) => Promise<Float32Array>,
  ): Promise<Tensor> {
    checkObject(options, 'options', ['signal', 'tiling'])
    const signal = checkSignal(options.signal)
    const most = bytesAllowed(checkTiling(options.tiling, 'tiling'), pixels)
    const parts: Tensor[] = []
    for (let i = 0; i < n; i++) {
      const one = rows({ data, shape: [n, ...rest] }, i).data
      const result = await this.call(signal, (model, cancel) => compute(model, one, most, cancel))
      parts.push({ data: result, shape })
    }
    return stack(parts)
  }

  /** Bytes of working memory that decoding latents of h × w takes. */
  decodeBytes(h: number, w: number, option?: TilingOption): number {
    return this.model.decodeBytes(1, h, w, bytesAllowed(option, h * w * this.factor ** 2))
  }
}
