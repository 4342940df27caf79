import type { Placement } from '../device/index.js'
import { DiffusionError } from '../errors.js'
import type { ModelDescription } from '../models/index.js'
import { openT2iAdapter, type T2iAdapterDescription } from '../models/t2i-adapter.js'
import { cancellable } from '../native-call.js'
import {
  native,
  type KeptTensors,
  type NativeT2iAdapter,
  type T2iAdapterConfig,
  type UnetConfig,
} from '../native.js'
import type { DeviceName, Tensor } from '../types.js'
import { loadAlone, type AutoencoderOptions } from './autoencoder.js'
import { Component, type CallOptions } from './component.js'
import { refuseDifferences } from './control-net.js'

/**
 * A T2I-Adapter (Mou et al. 2023): a small network that sees a picture once per image. Its features stay in the engine,
 * and the UNet adds them to what its encoder computes.
 */
export class T2iAdapter extends Component<NativeT2iAdapter> {
  readonly config: Readonly<T2iAdapterConfig>
  /** Number of features: one for each level of the UNet, and with Stable Diffusion XL one for the middle block. */
  readonly residuals: number
  /** It takes one kind of picture. */
  readonly types = 0
  /** Its pictures have no masks. */
  readonly masks = false

  private constructor(model: NativeT2iAdapter, { config }: T2iAdapterDescription, device: DeviceName) {
    super(model, 'T2I-Adapter', device)
    this.config = config
    this.residuals = model.features
  }

  /**
   * Loads a T2I-Adapter.
   *
   * @param path a file with diffusers' or the original names, or a diffusers folder
   * @throws {DiffusionError} as DiffusionPipeline.load()
   */
  static async load(path: string, options: AutoencoderOptions = {}): Promise<T2iAdapter> {
    const open = async (local: string) => {
      const adapter = await openT2iAdapter(local)
      if (!adapter) throw new DiffusionError('UNSUPPORTED_MODEL', `${path}: expected a T2I-Adapter`)
      return adapter
    }
    return loadAlone(path, options, open, (...given) => T2iAdapter.from(...given))
  }

  /** @internal */
  static async from(
    description: T2iAdapterDescription,
    placement: Placement,
    { signal }: CallOptions = {},
  ): Promise<T2iAdapter> {
    const source = { ...description.source, device: placement.cuda }
    const model = await cancellable(signal, (cancel) =>
      native().loadT2iAdapter(description.config, source, cancel),
    )
    return new T2iAdapter(model, description, placement.device)
  }

  /**
   * Computes the features of pictures [n, 3, h, w] of 0…1 into `to`.
   *
   * @internal
   */
  async embed(pictures: Tensor, to: KeptTensors, { signal }: CallOptions): Promise<void> {
    const { data, shape } = this.config.imageChannels === 1 ? grey(pictures) : pictures
    const [n, , h, w] = shape
    await this.call(signal, (model, cancel) => model.embed({ pictures: data, n, h, w, to }, cancel))
  }

  /** Bytes of memory that embed() takes for n pictures of h × w pixels, without allocating it. */
  memory(n: number, h: number, w: number) {
    return this.model.memory({ n, h, w })
  }
}

/** ITU-R BT.601, in whole levels as in grey pictures, which diffusers is given. */
function grey({ data, shape }: Tensor): Tensor {
  const [n, , h, w] = shape
  const plane = h * w
  const out = new Float32Array(n * plane)
  for (let i = 0; i < out.length; i++) {
    const at = Math.floor(i / plane) * 3 * plane + (i % plane)
    const luma = 0.299 * data[at] + 0.587 * data[at + plane] + 0.114 * data[at + 2 * plane]
    out[i] = Math.round(255 * luma) / 255
  }
  return { data: out, shape: [n, 1, h, w] }
}

/** Refuses a T2I-Adapter that was not made for this UNet and its autoencoder's latents. */
export function checkT2iAdapter(
  path: string,
  { config }: Pick<T2iAdapterDescription, 'config'>,
  { unet, vae, tinyVae }: ModelDescription & Required<Pick<ModelDescription, 'unet'>>,
): void {
  const levels = vae ? vae.config.blockChannels : tinyVae!.config.decoderBlocks
  const places = placesOf(unet.config, 2 ** (levels.length - 1)).slice(0, Math.max(config.channels.length, 1))
  let { factor } = config
  const found = config.channels.map((channels, i) => ({
    channels,
    factor: (factor *= config.halves[i] ? 2 : 1),
  }))
  refuseDifferences(path, 'T2I-Adapter', {
    'channels of its features': [places.map((p) => p.channels), found.map((p) => p.channels)],
    'pixels for each of its features, along one side,': [
      places.map((p) => p.factor),
      found.map((p) => p.factor),
    ],
    'image channels': [config.imageChannels === 1 ? 1 : 3, config.imageChannels],
  })
}

/**
 * What a UNet adds features to: at each level with attention before the downsampling, at others after it, and last to the
 * middle block. `factor` is the pixels of a picture for each of theirs, along one side.
 */
function placesOf(unet: UnetConfig, factor: number): { channels: number; factor: number }[] {
  const { blockChannels, downTransformerDepth, midTransformerDepth } = unet
  const last = blockChannels.length - 1
  const places = blockChannels.map((channels, i) => {
    const attends = [downTransformerDepth[i]].flat().some((depth) => depth > 0)
    return { channels, factor: factor * 2 ** (attends ? i : Math.min(i + 1, last)) }
  })
  const middle = { channels: blockChannels[last], factor: factor * 2 ** last }
  return midTransformerDepth >= 0 ? [...places, middle] : places
}
