import { constants } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { DiffusionError } from '../../errors.js'
import { quote } from '../../quote.js'
import { badFormat } from './fail.js'

/** A tensor of a file, under the name that it has there. */
export interface StoredTensor {
  name: string
  /** In lower case: a TensorType, or another type of the format ('i64', 'f8_e4m3fnuz'). */
  type: string
  /** Torch order, outermost first. */
  shape: number[]
  /** Index into the model's list of files. */
  file: number
  /** Bytes from the start of the file. */
  offset: number
  bytes: number
  /** Stored (O, kh, kw, I); `shape` says (O, I, kh, kw). */
  channelsLast?: boolean
  /** A factor of all elements; none: 1. */
  scale?: number
  /** Why the engine cannot read it, as the end of a sentence; only a tensor that a model needs is refused for it. */
  problem?: string
}

/** The header of a tensor file. */
export interface TensorFile {
  path: string
  format: 'safetensors' | 'gguf' | 'pickle'
  tensors: Map<string, StoredTensor>
  metadata: Map<string, unknown>
}

export function ioError(path: string, error: unknown): DiffusionError {
  const reason = error instanceof Error ? error.message : String(error)
  return new DiffusionError('IO', `${path}: cannot be read: ${reason}`, { cause: error })
}

/** Opens a regular file for `use`, and closes it. */
export async function withFile<T>(
  path: string,
  use: (file: FileHandle, size: number) => Promise<T>,
): Promise<T> {
  let file: FileHandle
  try {
    // Opening a named pipe without a writer would block one of Node's few threads forever.
    file = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0))
  } catch (error) {
    throw ioError(path, error)
  }
  try {
    const stat = await file.stat()
    if (!stat.isFile()) throw badFormat(path, 'expected a regular file')
    return await use(file, stat.size)
  } finally {
    await file.close()
  }
}

/** Reads exactly `length` bytes from `position`; the caller has checked that the file is long enough. */
export async function readExactly(
  path: string,
  file: FileHandle,
  position: number,
  length: number,
): Promise<Buffer> {
  const buffer = Buffer.alloc(length)
  let filled = 0
  while (filled < length) {
    let bytesRead: number
    try {
      bytesRead = (await file.read(buffer, filled, length - filled, position + filled)).bytesRead
    } catch (error) {
      throw ioError(path, error)
    }
    if (bytesRead === 0)
      throw badFormat(path, `truncated: expected ${position + length} bytes, found ${position + filled}`)
    filled += bytesRead
  }
  return buffer
}

/** Number of elements; undefined if it is not a safe integer. */
export function countElements(shape: readonly number[]): number | undefined {
  if (shape.includes(0)) return 0
  let count = 1
  for (const length of shape) {
    count *= length
    if (!Number.isSafeInteger(count)) return undefined
  }
  return count
}

/**
 * Refuses tensors that overlap, and holes between them of more than `slack` bytes, which alignment needs: both mean
 * that the header belongs to another file. Returns the end of the last tensor.
 */
export function checkOffsets(
  path: string,
  tensors: Iterable<StoredTensor>,
  start: number,
  slack: number,
): number {
  const sorted = [...tensors].sort((a, b) => a.offset - b.offset || a.bytes - b.bytes)
  let end = start
  let previous = 'the header'
  for (const tensor of sorted) {
    const name = `tensor ${quote(tensor.name)}`
    if (tensor.offset < end) {
      throw badFormat(
        path,
        `${name} overlaps ${previous}: expected it at byte ${end} or later, found ${tensor.offset}`,
      )
    }
    if (tensor.offset - end > slack) {
      throw badFormat(
        path,
        `hole of ${tensor.offset - end} bytes between ${previous} and ${name}: expected none`,
      )
    }
    end = tensor.offset + tensor.bytes
    previous = name
  }
  return end
}
