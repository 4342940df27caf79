import { types } from 'node:util'
import { checkInteger, checkObject, checkSignal, expectation, lengthOf } from '../check.js'
import { requireMemory } from '../memory.js'
import { cancellable } from '../native-call.js'
import { native, type NativeTextEncoder, type TextCall, type TextEncoderConfig } from '../native.js'
import type { Placement } from '../device/index.js'
import type { Tokenizer } from '../prompt/tokenizer.js'
import type { DeviceName, Tensor } from '../types.js'
import type { TextEncoderDescription } from '../models/model-description.js'
import { Component, type CallOptions } from './component.js'

/** Rows that are encoded at once. Working memory grows with them, and more are hardly faster for each. */
const ROWS_AT_ONCE = 16

/** What encodePooled() returns. */
export interface PooledEncoding {
  /** Hidden states [n, length, width]. */
  hidden: Tensor
  /** The states at the end tokens, projected where the model has a projection: [n, pooledWidth]. */
  pooled: Tensor
}

/** Options of a call. */
export interface TextEncodeOptions extends CallOptions {
  /** Number of last layers to skip, as diffusers' clip_skip, beyond those that the model always skips. */
  clipSkip?: number
}

/** The CLIP text model (Radford et al. 2021): token ids to the hidden states that the UNet attends to. */
export class TextEncoder extends Component<NativeTextEncoder> {
  readonly config: Readonly<TextEncoderConfig>
  /** Number of ids in one row: the tokenizer's chunk length. */
  readonly length: number
  /** Largest `clipSkip`: the number of layers that can be skipped, beyond those that the model always skips. */
  readonly maxClipSkip: number
  readonly #skip: number
  readonly #finalNorm: boolean
  readonly #endId: number
  /** Vectors of embeddings, [n, width]: the ids after the vocabulary. */
  readonly #vectors: Float32Array

  private constructor(
    model: NativeTextEncoder,
    { config, skip, finalNorm }: TextEncoderDescription,
    length: number,
    endId: number,
    vectors: Float32Array,
    device: DeviceName,
    base?: TextEncoder,
  ) {
    super(model, 'text encoder', device, base)
    this.config = config
    this.length = length
    this.#skip = skip
    this.#finalNorm = finalNorm ?? true
    this.#endId = endId
    this.#vectors = vectors
    this.maxClipSkip = config.layers - 1 - skip
  }

  /**
   * @param options.vectors those of embeddings
   * @param options.base the text encoder that this one is a variant of, with which it shares what did not change
   * @internal
   */
  static async load(
    description: TextEncoderDescription,
    tokenizer: Pick<Tokenizer, 'maxLength' | 'eos'>,
    placement: Placement,
    options: CallOptions & { vectors?: Float32Array; base?: TextEncoder } = {},
  ): Promise<TextEncoder> {
    const { signal, base, vectors = base ? base.#vectors : new Float32Array(0) } = options
    const placed = { ...description.source, device: placement.cuda }
    const model = await cancellable(signal, (cancel) =>
      native().loadTextEncoder(description.config, placed, cancel, base?.model),
    )
    const length = Math.min(tokenizer.maxLength, description.config.maxPositions)
    return new TextEncoder(model, description, length, tokenizer.eos, vectors, placement.device, base)
  }

  /** Whether the model has a projection for the pooled output (CLIPTextModelWithProjection). */
  get pools(): boolean {
    return this.config.projectionWidth !== undefined
  }

  /** Width of the pooled output. */
  get pooledWidth(): number {
    return this.config.projectionWidth ?? this.config.width
  }

  /**
   * Token ids, n rows of `length` (77), to hidden states [n, length, width]: after the final norm, or before it in
   * models whose UNet was trained so (SDXL).
   *
   * @param options.clipSkip 0…maxClipSkip
   * @throws {RangeError} ids outside the vocabulary, or a number of ids that is not a multiple of `length`
   * @throws {DiffusionError} OUT_OF_MEMORY, DISPOSED; IO if weights are streamed and their file has changed
   */
  async encode(tokens: Int32Array, options: TextEncodeOptions = {}): Promise<Tensor> {
    return (await this.#encode(tokens, options, false)).hidden
  }

  /**
   * As encode(), with the pooled output: the state at the first end token of each row, after all layers and the final
   * norm, whatever clipSkip, and projected where the model has a projection.
   */
  async encodePooled(tokens: Int32Array, options: TextEncodeOptions = {}): Promise<PooledEncoding> {
    const { hidden, pooled } = await this.#encode(tokens, options, true)
    return { hidden, pooled: pooled! }
  }

  async #encode(
    tokens: Int32Array,
    options: TextEncodeOptions,
    pools: boolean,
  ): Promise<{ hidden: Tensor; pooled?: Tensor }> {
    const given = checkObject(options, 'options', ['signal', 'clipSkip'])
    const signal = checkSignal(given.signal)
    const { pooledWidth } = this
    const { width } = this.config
    const clipSkip = checkInteger(given.clipSkip ?? 0, 'clipSkip', 0, this.maxClipSkip)
    const ids = this.#copyIds(tokens)
    const n = ids.length / this.length
    requireMemory(this.weightBytes + 4 * ids.length * width, `The hidden states of ${n} chunks`)
    const hidden = new Float32Array(ids.length * width)
    const pooled = new Float32Array(pools ? n * pooledWidth : 0)
    for (let row = 0; row < n; row += ROWS_AT_ONCE) {
      const count = Math.min(ROWS_AT_ONCE, n - row)
      const part = ids.subarray(row * this.length, (row + count) * this.length)
      const call: TextCall = {
        ...this.#withVectors(part),
        n: count,
        length: this.length,
        skip: this.#skip + clipSkip,
        finalNorm: this.#finalNorm,
        ...(pools && { pooledPositions: this.#endPositions(part, count) }),
      }
      const data = await this.call(signal, (model, cancel) => model.encode(call, cancel))
      hidden.set(data.subarray(0, part.length * width), row * this.length * width)
      pooled.set(data.subarray(part.length * width), row * pooledWidth)
    }
    return {
      hidden: { data: hidden, shape: [n, this.length, width] },
      ...(pools && { pooled: { data: pooled, shape: [n, pooledWidth] } }),
    }
  }

  /** @internal Bytes of working memory for encoding n rows. */
  workingBytes(n: number): number {
    return this.model.workingBytes({ n, length: this.length })
  }

  /** A copy of rows of ids. */
  #copyIds(tokens: unknown): Int32Array {
    if (!types.isInt32Array(tokens)) throw new TypeError(expectation('Int32Array', 'tokens', tokens))
    const ids = lengthOf(tokens) === 0 ? new Int32Array(0) : new Int32Array(tokens)
    const idCount = this.config.vocabSize + this.#vectors.length / this.config.width
    if (ids.length === 0 || ids.length % this.length !== 0) {
      throw new RangeError(`Expected a multiple of ${this.length} tokens but received ${ids.length}`)
    }
    for (const id of ids)
      if (id < 0 || id >= idCount)
        throw new RangeError(expectation(`ids between 0 and ${idCount - 1}`, 'tokens', id))
    return ids
  }

  /** The ids, with the vectors of those that are not in the vocabulary. */
  #withVectors(tokens: Int32Array): Pick<TextCall, 'tokens' | 'vectors' | 'vectorCount'> {
    const { vocabSize, width } = this.config
    const used = [...new Set(tokens.filter((id) => id >= vocabSize))]
    if (used.length === 0) return { tokens }
    const vectors = new Float32Array(used.length * width)
    for (const [i, id] of used.entries())
      vectors.set(this.#vectors.subarray((id - vocabSize) * width, (id - vocabSize + 1) * width), i * width)
    return {
      tokens: tokens.map((id) => (id < vocabSize ? id : vocabSize + used.indexOf(id))),
      vectors,
      vectorCount: used.length,
    }
  }

  /** Position of the first end token of each row; 0 in a row without one, as in transformers. */
  #endPositions(tokens: Int32Array, n: number): Int32Array {
    return Int32Array.from({ length: n }, (_, row) =>
      Math.max(tokens.subarray(row * this.length, (row + 1) * this.length).indexOf(this.#endId), 0),
    )
  }
}
