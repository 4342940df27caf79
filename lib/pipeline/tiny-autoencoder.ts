import { DiffusionError } from '../errors.js'
import { cancellable } from '../native-call.js'
import { native, type NativeTinyVae, type TinyVaeConfig } from '../native.js'
import type { Placement } from '../device/index.js'
import type { DeviceName, Tensor } from '../types.js'
import { openModel } from '../models/index.js'
import type { ModelDescription } from '../models/model-description.js'
import { Autoencoder, loadAlone, type AutoencoderOptions, type TiledCallOptions } from './autoencoder.js'
import type { CallOptions } from './component.js'

/**
 * A tiny autoencoder (TAESD, github.com/madebyollin/taesd). It replaces AutoencoderKL at a fraction of the time, with a
 * little less detail. Its latents are scaled as in diffusion, without a scaling factor.
 */
export class AutoencoderTiny extends Autoencoder<NativeTinyVae, TinyVaeConfig> {
  /** Latents are what the UNet works on. */
  readonly scalingFactor = 1

  private constructor(model: NativeTinyVae, config: TinyVaeConfig, device: DeviceName) {
    super(model, config, config.decoderBlocks.length, 'tiny autoencoder', device)
  }

  /**
   * Loads a tiny autoencoder.
   *
   * @param path a diffusers folder, or a file (as of openModel()) with diffusers' or the original tensor names; it
   *   may contain the decoder only
   * @throws {DiffusionError} as DiffusionPipeline.load()
   */
  static async load(path: string, options: AutoencoderOptions = {}): Promise<AutoencoderTiny> {
    return loadAlone(
      path,
      options,
      (local) => describeTinyVae(path, local),
      (...given) => AutoencoderTiny.from(...given),
    )
  }

  /** @internal */
  static async from(
    { config, source }: NonNullable<ModelDescription['tinyVae']>,
    placement: Placement,
    { signal }: CallOptions = {},
  ): Promise<AutoencoderTiny> {
    const model = await cancellable(signal, (cancel) =>
      native().loadTinyVae(config, { ...source, device: placement.cuda }, cancel),
    )
    return new AutoencoderTiny(model, config, placement.device)
  }

  /**
   * Images [n, 3, h, w] in −1…1 to latents [n, 4, h/8, w/8].
   *
   * @throws {DiffusionError} UNSUPPORTED_MODEL: the file contains the decoder only
   */
  async encode(image: Tensor, options: TiledCallOptions = {}): Promise<Tensor> {
    return this.encodeRows(image, options)
  }

  /** Latents [n, 4, h, w], scaled as in diffusion, to images [n, 3, 8h, 8w] in about −1…1, not clamped. */
  async decode(latents: Tensor, options: TiledCallOptions = {}): Promise<Tensor> {
    return this.decodeRows(latents, this.config.latentChannels, options)
  }
}

/**
 * Opens the tiny autoencoder in a file or folder.
 *
 * @param given how messages name it
 */
export async function describeTinyVae(
  given: string,
  path: string,
): Promise<NonNullable<ModelDescription['tinyVae']>> {
  const { tinyVae, architecture } = await openModel(path)
  if (tinyVae) return tinyVae
  throw new DiffusionError(
    'UNSUPPORTED_MODEL',
    `${given}: expected a tiny autoencoder (TAESD), found ${architecture}`,
  )
}
