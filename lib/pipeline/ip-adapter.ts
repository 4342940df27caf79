import { promptTokens, type IpAdapterDescription, type IpAdapterInput } from '../adapters/index.js'
import type { Placement } from '../device/index.js'
import { cancellable } from '../native-call.js'
import {
  native,
  type ImagePromptCall,
  type ImagePromptSizes,
  type IpAdapterConfig,
  type NativeIpAdapter,
} from '../native.js'
import type { DeviceName } from '../types.js'
import { Component, type CallOptions } from './component.js'
import type { ImageEncoder } from './image-encoder.js'

/**
 * An IP-Adapter (Ye et al. 2023, "IP-Adapter: Text Compatible Image Prompt Adapter for Text-to-Image Diffusion Models"). What
 * it makes of images stays in the engine.
 */
export class IpAdapter extends Component<NativeIpAdapter> {
  readonly config: Readonly<IpAdapterConfig>
  readonly path: string
  /**
   * What it takes: the embedding of an image ('embedding'), the hidden states of an image encoder ('hidden'), the
   * embedding of a face ('face'), or that and a picture of the face ('face-picture').
   */
  readonly input: IpAdapterInput
  /** The image encoder; adapters may share one. Undefined: only embeddings can be given. */
  readonly imageEncoder?: ImageEncoder

  private constructor(
    model: NativeIpAdapter,
    { path, config, input }: IpAdapterDescription,
    imageEncoder: ImageEncoder | undefined,
    device: DeviceName,
  ) {
    super(model, 'IP-Adapter', device)
    this.path = path
    this.config = config
    this.input = input
    this.imageEncoder = imageEncoder
  }

  /** @internal */
  static async from(
    description: IpAdapterDescription,
    imageEncoder: ImageEncoder | undefined,
    placement: Placement,
    { signal }: CallOptions = {},
  ): Promise<IpAdapter> {
    const source = { ...description.source, device: placement.cuda }
    const model = await cancellable(signal, (cancel) =>
      native().loadIpAdapter(description.config, source, cancel),
    )
    return new IpAdapter(model, description, imageEncoder, placement.device)
  }

  /** @internal */
  async encode(call: ImagePromptCall, { signal }: CallOptions): Promise<void> {
    await this.call(signal, (model, cancel) => model.encode(call, cancel))
  }

  /** @internal Tokens that so many images add to each cross-attention. */
  tokens(images: number, rows: number): number {
    return promptTokens(this.config, images, rows)
  }

  /** @internal Bytes of memory that a prompt takes, without allocating it. */
  memory(sizes: ImagePromptSizes): { working: number; kept: number } {
    return this.model.memory(sizes)
  }
}
