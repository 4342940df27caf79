import { DiffusionError } from '../errors.js'
import type { Placement } from '../device/index.js'
import { cancellable } from '../native-call.js'
import {
  native,
  type ControlCall,
  type ControlNetConfig,
  type KeptTensors,
  type NativeControlNet,
} from '../native.js'
import { openModel } from '../models/index.js'
import type { ControlRequest } from '../options/index.js'
import type { ModelDescription } from '../models/model-description.js'
import type { DeviceName, Tensor } from '../types.js'
import { loadAlone, type AutoencoderOptions } from './autoencoder.js'
import { Component, type CallOptions } from './component.js'

/** A stored ControlNet. */
export type ControlNetDescription = NonNullable<ModelDescription['controlNet']>

/**
 * A ControlNet (Zhang et al. 2023, "Adding Conditional Control to Text-to-Image Diffusion Models"). What it adds to the
 * UNet stays in the engine.
 */
export class ControlNet extends Component<NativeControlNet> {
  readonly config: Readonly<ControlNetConfig>
  /** Pixels of the picture for each latent, along one side. */
  readonly factor: number
  /** Number of residuals: one for each skip connection of the UNet, and the middle block's. */
  readonly residuals: number
  /** Kinds of pictures that it tells apart (a union ControlNet); 0: it takes one kind. */
  readonly types: number
  /** Whether its pictures may be masked. */
  readonly masks = true
  /** Whether its pictures have blue first. */
  readonly bgr: boolean

  private constructor(
    model: NativeControlNet,
    { config, bgr = false }: ControlNetDescription,
    device: DeviceName,
  ) {
    super(model, 'ControlNet', device)
    this.config = config
    this.factor = 2 ** (config.imageWidths.length - 1)
    this.residuals = model.residuals
    this.types = config.union?.types ?? 0
    this.bgr = bgr
  }

  /**
   * Loads a ControlNet.
   *
   * @param path a file with diffusers' or the original names, or a diffusers folder
   * @throws {DiffusionError} as DiffusionPipeline.load()
   */
  static async load(path: string, options: AutoencoderOptions = {}): Promise<ControlNet> {
    return loadAlone(
      path,
      options,
      (local) => describeControlNet(path, local),
      (...given) => ControlNet.from(...given),
    )
  }

  /** @internal */
  static async from(
    description: ControlNetDescription,
    placement: Placement,
    { signal }: CallOptions = {},
  ): Promise<ControlNet> {
    const source = { ...description.source, device: placement.cuda }
    const model = await cancellable(signal, (cancel) =>
      native().loadControlNet(description.config, source, cancel),
    )
    return new ControlNet(model, description, placement.device)
  }

  /**
   * Embeds pictures [n, 3, h, w] of 0…1 into `to`. A union ControlNet has to know what they show, and their scale where
   * they guide together with others.
   *
   * @internal
   */
  async embed(
    pictures: Tensor,
    to: KeptTensors,
    { type, scale }: Pick<ControlRequest, 'type' | 'scale'>,
    { signal }: CallOptions,
  ): Promise<void> {
    const [n, , height, width] = pictures.shape
    const [h, w] = [height / this.factor, width / this.factor]
    const { data } = this.bgr ? reversed(pictures) : pictures
    const kind = type === undefined ? {} : { type, scale }
    await this.call(signal, (model, cancel) => model.embed({ pictures: data, n, h, w, to, ...kind }, cancel))
  }

  /** @internal */
  async predict(call: ControlCall, { signal }: CallOptions): Promise<void> {
    await this.call(signal, (model, cancel) => model.predict(call, cancel))
  }

  /** @internal As Unet.prepare(), with what the native call takes. */
  async prepare(call: Parameters<NativeControlNet['prepare']>[0], { signal }: CallOptions): Promise<void> {
    await this.call(signal, (model, cancel) => model.prepare(call, cancel))
  }

  /** Bytes of memory that calls for n latents of h × w take, without allocating it. */
  memory(n: number, h: number, w: number, contextLength: number, pictures: number) {
    return this.model.memory({ n, h, w, conditioning: { contextLength }, pictures })
  }
}

/** Blue, green, red. */
function reversed({ data, shape }: Tensor): Tensor {
  const plane = shape[2] * shape[3]
  const out = new Float32Array(data.length)
  for (let i = 0; i < shape[0]; i++)
    for (let c = 0; c < 3; c++)
      out.set(data.subarray((3 * i + c) * plane, (3 * i + c + 1) * plane), (3 * i + 2 - c) * plane)
  return { data: out, shape }
}

/**
 * Opens the ControlNet in a file or folder.
 *
 * @param given how messages name it
 */
export async function describeControlNet(given: string, path: string): Promise<ControlNetDescription> {
  const { controlNet, architecture } = await openModel(path)
  if (!controlNet)
    throw new DiffusionError('UNSUPPORTED_MODEL', `${given}: expected a ControlNet, found ${architecture}`)
  return controlNet
}

/** @param facts what the model needs and what the file has, by how messages name it */
export function refuseDifferences(
  path: string,
  kind: 'ControlNet' | 'T2I-Adapter',
  facts: Record<string, [wanted: number | number[], found: number | number[]]>,
): void {
  for (const [what, [wanted, found]] of Object.entries(facts)) {
    if (String(wanted) === String(found)) continue
    throw new DiffusionError(
      'UNSUPPORTED_MODEL',
      `${path}: this ${kind} was made for another model: expected ${what} ${String(wanted)}, found ${String(found)}`,
    )
  }
}

/** Refuses a ControlNet that was not made for this UNet and its autoencoder's latents. */
export function checkControlNet(
  path: string,
  { config }: Pick<ControlNetDescription, 'config'>,
  { unet, vae, tinyVae }: ModelDescription & Required<Pick<ModelDescription, 'unet'>>,
): void {
  const { latentChannels } = (vae ?? tinyVae)!.config
  const levels = vae ? vae.config.blockChannels : tinyVae!.config.decoderBlocks
  refuseDifferences(path, 'ControlNet', {
    'channels at its levels': [unet.config.blockChannels, config.unet.blockChannels],
    'layers at its levels': [unet.config.layersPerBlock, config.unet.layersPerBlock],
    'a context of a width of': [unet.config.contextWidth, config.unet.contextWidth],
    'latent channels': [latentChannels, config.unet.inChannels],
    'added conditions of a width of': [unet.config.added?.width ?? 0, config.unet.added?.width ?? 0],
    'pixels for each latent, along one side,': [
      2 ** (levels.length - 1),
      2 ** (config.imageWidths.length - 1),
    ],
    'image channels': [3, config.imageChannels],
  })
}
