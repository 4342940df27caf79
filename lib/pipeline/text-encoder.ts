import { checkInteger, checkObject, checkSignal, expectation } from '../check.js'
import { cancellable } from '../native-call.js'
import { native, type NativeTextEncoder, type TextEncoderConfig } from '../native.js'
import type { Placement } from '../device/index.js'
import type { DeviceName, Tensor } from '../types.js'
import type { TextEncoderDescription } from '../models/model-description.js'
import { Component, type CallOptions } from './component.js'

/** The CLIP text model (Radford et al. 2021): token ids to the hidden states that the UNet attends to. */
export class TextEncoder extends Component<NativeTextEncoder> {
  readonly config: Readonly<TextEncoderConfig>
  /** Number of ids in one row: the tokenizer's chunk length. */
  readonly length: number
  /** Largest `clipSkip`: the number of layers that can be skipped, beyond those that the model always skips. */
  readonly maxClipSkip: number
  readonly #skip: number

  private constructor(
    model: NativeTextEncoder,
    { config, skip }: TextEncoderDescription,
    length: number,
    device: DeviceName,
  ) {
    super(model, 'text encoder', device)
    this.config = config
    this.length = length
    this.#skip = skip
    this.maxClipSkip = config.layers - 1 - skip
  }

  /** @internal */
  static async load(
    description: TextEncoderDescription,
    length: number,
    placement: Placement,
    { signal }: CallOptions = {},
  ): Promise<TextEncoder> {
    const model = await cancellable(signal, (cancel) =>
      native().loadTextEncoder(description.config, { ...description.source, device: placement.cuda }, cancel),
    )
    return new TextEncoder(
      model,
      description,
      Math.min(length, description.config.maxPositions),
      placement.device,
    )
  }

  /**
   * Token ids, n rows of `length` (77), to hidden states [n, length, width] after the final norm.
   *
   * @param options.clipSkip number of last layers to skip (as diffusers' clip_skip), beyond those that the model always
   *   skips; 0…maxClipSkip
   * @throws {RangeError} ids outside the vocabulary, or a number of ids that is not a multiple of `length`
   * @throws {DiffusionError} OUT_OF_MEMORY, DISPOSED; IO if weights are streamed and their file has changed
   */
  async encode(tokens: Int32Array, options: CallOptions & { clipSkip?: number } = {}): Promise<Tensor> {
    checkObject(options, 'options', ['signal', 'clipSkip'])
    const signal = checkSignal(options.signal)
    const { vocabSize, width } = this.config
    const clipSkip = checkInteger(options.clipSkip ?? 0, 'clipSkip', 0, this.maxClipSkip)
    if (!(tokens instanceof Int32Array)) throw new TypeError(expectation('Int32Array', 'tokens', tokens))
    if (tokens.length === 0 || tokens.length % this.length !== 0) {
      throw new RangeError(`Expected a multiple of ${this.length} tokens but received ${tokens.length}`)
    }
    const wrong = tokens.find((id) => id < 0 || id >= vocabSize)
    if (wrong !== undefined)
      throw new RangeError(expectation(`ids between 0 and ${vocabSize - 1}`, 'tokens', wrong))
    const n = tokens.length / this.length
    const ids = new Int32Array(tokens)
    const data = await this.call(signal, (model, cancel) =>
      model.encode(ids, n, this.length, this.#skip + clipSkip, cancel),
    )
    return { data, shape: [n, this.length, width] }
  }
}
