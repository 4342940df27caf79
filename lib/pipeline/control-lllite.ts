import type { Placement } from '../device/index.js'
import type { ControlLlliteDescription } from '../models/control-lllite.js'
import { cancellable } from '../native-call.js'
import {
  native,
  type ControlLlliteConfig,
  type KeptTensors,
  type NativeControlLllite,
  type NativeInputs,
} from '../native.js'
import type { DeviceName, Tensor } from '../types.js'
import { Component, type CallOptions } from './component.js'

/**
 * A ControlLLLite (kohya-ss 2023): small networks that see a picture once per image, and change what the projections of
 * the UNet's attentions see.
 */
export class ControlLllite extends Component<NativeControlLllite> {
  readonly config: Readonly<ControlLlliteConfig>
  /** It adds nothing to skip connections, so that a control has no `weights`. */
  readonly residuals = 0
  /** It takes one kind of picture. */
  readonly types = 0
  /** Its pictures have no masks. */
  readonly masks = false

  private constructor(model: NativeControlLllite, { config }: ControlLlliteDescription, device: DeviceName) {
    super(model, 'ControlLLLite', device)
    this.config = config
  }

  /** @internal */
  static async from(
    description: ControlLlliteDescription,
    placement: Placement,
    { signal }: CallOptions = {},
  ): Promise<ControlLllite> {
    const source = { ...description.source, device: placement.cuda }
    const model = await cancellable(signal, (cancel) =>
      native().loadControlLllite(description.config, source, cancel),
    )
    return new ControlLllite(model, description, placement.device)
  }

  /**
   * Embeds pictures [n, 3, h, w] of 0…1 into `to`.
   *
   * @internal
   */
  async embed(pictures: Tensor, to: KeptTensors, { signal }: CallOptions): Promise<void> {
    const { data, shape } = continued(pictures, this.model.factor)
    const [n, , h, w] = shape
    await this.call(signal, (model, cancel) => model.embed({ pictures: data, n, h, w, to }, cancel))
  }

  /** @internal For a prediction of the UNet. */
  inputs(kept: KeptTensors, scale: number, first: number, count: number): NativeInputs {
    return { net: this.model, kept, scale, first, count }
  }

  /** Bytes of memory that n pictures of h × w pixels take for a batch of `rows`, without allocating it. */
  memory(n: number, h: number, w: number, rows: number) {
    const side = this.model.factor
    const [height, width] = [h, w].map((length) => Math.ceil(length / side) * side)
    return this.model.memory({ n, h: height, w: width, rows })
  }
}

/** Values of −1…1. Sides that are no multiple of `side` are continued with their last pixels. */
function continued({ data, shape }: Tensor, side: number): Tensor {
  const [n, channels, h, w] = shape
  const [height, width] = [h, w].map((length) => Math.ceil(length / side) * side)
  const out = new Float32Array(n * channels * height * width)
  for (let i = 0; i < n * channels; i++)
    for (let y = 0; y < height; y++) {
      const row = (i * h + Math.min(y, h - 1)) * w
      const to = (i * height + y) * width
      for (let x = 0; x < width; x++) out[to + x] = 2 * data[row + Math.min(x, w - 1)] - 1
    }
  return { data: out, shape: [n, channels, height, width] }
}
