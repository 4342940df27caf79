import { raceAbort } from '../../abort.js'
import type { GgmlTensorType } from '../../native.js'
import { OutputFile } from '../../output-file.js'
import { CHANNELS_LAST_KEY } from './gguf.js'
import { GGML_TYPES, ggmlBytes } from './gguf-types.js'

/** A tensor to write; shape in torch order, outermost first. */
export interface GgufTensor {
  name: string
  type: GgmlTensorType
  shape: number[]
  /** A convolution kernel written as (O, kh, kw, I); `shape` still says (O, I, kh, kw). */
  channelsLast?: boolean
}

/** A metadata value: string, uint32 or array of strings. */
export type GgufValue = string | number | string[]

const VERSION = 3
const ALIGNMENT = 32
const [UINT32, STRING, ARRAY] = [4, 8, 9]

/**
 * Writes a GGUF file (version 3, little-endian) completely or not at all: first the header, then the tensors' bytes in
 * the order of the header, in chunks of any size. The file gets its name in finish().
 */
export class GgufWriter {
  readonly #sizes: number[]
  #tensor = 0
  #written = 0

  private constructor(
    private readonly path: string,
    private readonly file: OutputFile,
    tensors: readonly GgufTensor[],
    /** Size of the whole file. */
    readonly bytes: number,
  ) {
    this.#sizes = tensors.map(bytesOf)
  }

  /**
   * @param metadata without `node_diffusion.channels_last`, which follows from the tensors
   * @throws {DiffusionError} IO: the file cannot be written, or the disk is too small
   */
  static async create(
    path: string,
    metadata: Readonly<Record<string, GgufValue>>,
    tensors: readonly GgufTensor[],
  ): Promise<GgufWriter> {
    const header = ggufHeader(metadata, tensors)
    const bytes = tensors.reduce((sum, tensor) => sum + align(bytesOf(tensor)), header.length)
    const file = await OutputFile.create(path, { bytes })
    try {
      await file.write(header)
    } catch (error) {
      await file.discard()
      throw error
    }
    return new GgufWriter(path, file, tensors, bytes)
  }

  /** Writes the next bytes of the current tensor. A chunk never reaches into the next tensor. */
  async write(chunk: Uint8Array): Promise<void> {
    const size = this.#sizes[this.#tensor]
    if (size === undefined || this.#written + chunk.length > size) {
      throw new RangeError(
        `tensor ${this.#tensor} of ${this.path} has ${size ?? 0} bytes, not ${this.#written + chunk.length}`,
      )
    }
    await this.file.write(chunk)
    this.#written += chunk.length
    if (this.#written < size) return
    if (align(size) > size) await this.file.write(Buffer.alloc(align(size) - size))
    this.#tensor++
    this.#written = 0
  }

  /** Completes the file on disk and gives it its name. An aborted signal ends the wait for the disk. */
  async finish(signal?: AbortSignal): Promise<void> {
    if (this.#tensor < this.#sizes.length) {
      throw new RangeError(`tensor ${this.#tensor} of ${this.path} is not complete`)
    }
    await raceAbort(signal, this.file.sync())
    await this.file.commit()
  }

  /** Removes the temporary file; does nothing after finish(). */
  async abandon(): Promise<void> {
    await this.file.discard()
  }
}

function align(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT
}

function bytesOf({ type, shape }: GgufTensor): number {
  return ggmlBytes(
    type,
    shape.reduce((product, length) => product * length, 1),
  )
}

/** The header, padded up to the tensors' bytes. */
function ggufHeader(metadata: Readonly<Record<string, GgufValue>>, tensors: readonly GgufTensor[]): Buffer {
  const channelsLast = tensors.filter((tensor) => tensor.channelsLast).map(({ name }) => name)
  const pairs: [string, GgufValue][] = Object.entries(metadata)
  if (channelsLast.length > 0) pairs.push([CHANNELS_LAST_KEY, channelsLast])
  const parts = [Buffer.from('GGUF'), u32(VERSION), u64(tensors.length), u64(pairs.length)]
  for (const [key, value] of pairs) parts.push(text(key), ...valueParts(value))
  let offset = 0
  for (const tensor of tensors) {
    const dimensions = innermostFirst(tensor)
    const { number, elements } = GGML_TYPES[tensor.type]
    if (dimensions[0] % elements !== 0) {
      throw new RangeError(
        `rows of ${dimensions[0]} elements of ${tensor.name} do not fill ${tensor.type}'s blocks`,
      )
    }
    parts.push(text(tensor.name), u32(dimensions.length), ...dimensions.map(u64), u32(number), u64(offset))
    offset += align(bytesOf(tensor))
  }
  const header = Buffer.concat(parts)
  return Buffer.concat([header, Buffer.alloc(align(header.length) - header.length)])
}

/** GGUF's order of dimensions. */
function innermostFirst({ shape, channelsLast }: GgufTensor): number[] {
  if (!channelsLast) return shape.toReversed()
  const [outputs, inputs, height, width] = shape as [number, number, number, number]
  return [inputs, width, height, outputs]
}

function valueParts(value: GgufValue): Buffer[] {
  if (typeof value === 'string') return [u32(STRING), text(value)]
  if (typeof value === 'number') return [u32(UINT32), u32(value)]
  return [u32(ARRAY), u32(STRING), u64(value.length), ...value.map(text)]
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value)
  return Buffer.concat([u64(bytes.length), bytes])
}
