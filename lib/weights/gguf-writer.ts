import { open, rename, rm, stat, statfs, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import { DiffusionError } from '../errors.js'
import { formatBytes } from '../memory.js'
import type { TensorType } from '../native.js'
import { temporaryName, writeError } from '../write-error.js'
import { CHANNELS_LAST_KEY } from './gguf.js'
import { GGML_TYPES, ggmlBytes } from './gguf-types.js'

/** A tensor to be written; shape in torch order, outermost first. */
export interface GgufTensor {
  name: string
  type: TensorType
  shape: number[]
  /** A convolution kernel written as (O, kh, kw, I); `shape` still says (O, I, kh, kw). */
  channelsLast?: boolean
}

/** Metadata values of the kinds that our files need: string, uint32, array of strings. */
export type GgufValue = string | number | string[]

const VERSION = 3
const ALIGNMENT = 32
const [UINT32, STRING, ARRAY] = [4, 8, 9]

/**
 * A GGUF file (version 3, little-endian) written as a whole or not at all: header first, then the tensors' bytes in the
 * order of the header, in pieces of any size, under a temporary name that finish() renames.
 */
export class GgufWriter {
  readonly #sizes: number[]
  #tensor = 0
  #written = 0

  private constructor(
    private readonly path: string,
    private readonly temporary: string,
    private readonly file: FileHandle,
    tensors: readonly GgufTensor[],
    /** Of the whole file. */
    readonly bytes: number,
  ) {
    this.#sizes = tensors.map(bytesOf)
  }

  /**
   * @param metadata beside `node_diffusion.channels_last`, which follows from the tensors
   * @throws DiffusionError IO: it cannot be written there, or there is not enough room
   */
  static async create(
    path: string,
    metadata: Readonly<Record<string, GgufValue>>,
    tensors: readonly GgufTensor[],
  ): Promise<GgufWriter> {
    const header = ggufHeader(metadata, tensors)
    const bytes = tensors.reduce((sum, tensor) => sum + align(bytesOf(tensor)), header.length)
    await checkPlace(path, bytes)
    const temporary = temporaryName(path)
    let file: FileHandle
    try {
      file = await open(temporary, 'wx')
    } catch (error) {
      throw writeError(path, error)
    }
    const writer = new GgufWriter(path, temporary, file, tensors, bytes)
    try {
      await writer.#put(header)
    } catch (error) {
      await writer.abandon()
      throw error
    }
    return writer
  }

  /** The next bytes of the current tensor; one tensor's pieces never reach into the next. */
  async write(piece: Uint8Array): Promise<void> {
    const size = this.#sizes[this.#tensor]
    if (size === undefined || this.#written + piece.length > size) {
      throw new RangeError(
        `tensor ${this.#tensor} of ${this.path} has ${size ?? 0} bytes, not ${this.#written + piece.length}`,
      )
    }
    await this.#put(piece)
    this.#written += piece.length
    if (this.#written < size) return
    if (align(size) > size) await this.#put(Buffer.alloc(align(size) - size))
    this.#tensor++
    this.#written = 0
  }

  /** On disk, under its name. */
  async finish(): Promise<void> {
    if (this.#tensor < this.#sizes.length) {
      throw new RangeError(`tensor ${this.#tensor} of ${this.path} is not complete`)
    }
    try {
      // A rename that survives a power failure must not find a file without its data.
      await this.file.sync()
      await this.file.close()
      await rename(this.temporary, this.path)
    } catch (error) {
      throw writeError(this.path, error)
    }
  }

  /** Leaves nothing behind; harmless after finish(). */
  async abandon(): Promise<void> {
    await this.file.close().catch(() => {})
    await rm(this.temporary, { force: true }).catch(() => {})
  }

  async #put(bytes: Uint8Array): Promise<void> {
    try {
      for (let done = 0; done < bytes.length;) {
        done += (await this.file.write(bytes, done, bytes.length - done)).bytesWritten
      }
    } catch (error) {
      throw writeError(this.path, error)
    }
  }
}

/** What can be known to fail before minutes of work: a folder in the way, a disk too small. */
async function checkPlace(path: string, bytes: number): Promise<void> {
  const found = await stat(path).catch(() => undefined)
  if (found?.isDirectory()) throw writeError(path, { code: 'EISDIR' })
  const disk = await statfs(dirname(path)).catch(() => undefined)
  // File systems that do not know their size say zero.
  if (!disk || disk.blocks === 0) return
  const free = disk.bavail * disk.bsize
  if (bytes > free) {
    const message = `Cannot write ${path}: no space left on the device (${formatBytes(bytes)} needed, ${formatBytes(free)} free)`
    throw new DiffusionError('IO', message)
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

/** Everything up to the tensors' bytes, padded. */
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
