import { constants, type BigIntStats } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { setTimeout } from 'node:timers/promises'
import { DiffusionError } from '../../errors.js'
import type { FileIdentity } from '../../native.js'
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
  /** What the file was when its header was read; the engine compares it when it reads the weights. */
  identity: FileIdentity
  format: 'safetensors' | 'gguf' | 'pickle'
  tensors: Map<string, StoredTensor>
  metadata: Map<string, unknown>
}

/** Bounds of the tensors of one file, far above any model's. They bound the work that a header can cause. */
export const MAX_TENSORS = 16_384
/** In bytes. */
export const MAX_NAME = 256

/** Milliseconds in which two changes of a file may get the same time. */
const TICK = 12

export function ioError(path: string, error: unknown): DiffusionError {
  const reason = error instanceof Error ? error.message : String(error)
  return new DiffusionError('IO', `${path}: cannot be read: ${reason}`, { cause: error })
}

/**
 * Opens a regular file for `use`, and closes it.
 *
 * @param known what the file was when it was read before: another file, or another state of it, is refused
 * @throws {DiffusionError} IO: it cannot be read, or changes meanwhile; MODEL_FORMAT: it is not a regular file
 */
export async function withFile<T>(
  path: string,
  use: (file: FileHandle, size: number, identity: FileIdentity) => Promise<T>,
  known?: FileIdentity,
): Promise<T> {
  for (;;) {
    const { result, settled } = await readOnce(path, use, known)
    if (settled) return result
    // A change within the same tick of the system's clock would not show in the file's times.
    await setTimeout(TICK)
  }
}

async function readOnce<T>(
  path: string,
  use: (file: FileHandle, size: number, identity: FileIdentity) => Promise<T>,
  known: FileIdentity | undefined,
): Promise<{ result: T; settled: boolean }> {
  let file: FileHandle
  try {
    // Opening a named pipe without a writer would block one of Node's few threads forever.
    file = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0))
  } catch (error) {
    throw ioError(path, error)
  }
  try {
    const stat = await file.stat({ bigint: true })
    if (!stat.isFile()) throw badFormat(path, 'expected a regular file')
    const identity = identify(stat)
    if (known && !sameFile(known, identity)) throw changedError(path)
    const settled = Math.abs(Date.now() - Number(identity.changed / 1_000_000n)) > TICK
    const checkUnchanged = async () => {
      if (!sameFile(identity, identify(await file.stat({ bigint: true })))) throw changedError(path)
    }
    let result: T
    try {
      result = await use(file, Number(stat.size), identity)
    } catch (error) {
      // A change explains whatever is wrong with the content.
      await checkUnchanged()
      throw error
    }
    await checkUnchanged()
    return { result, settled }
  } finally {
    await file.close()
  }
}

function identify({ dev, ino, size, mtimeNs, ctimeNs, nlink }: BigIntStats): FileIdentity {
  return { device: dev, inode: ino, size, modified: mtimeNs, changed: ctimeNs, links: nlink }
}

/** Whoever writes to a file can restore its modification time, but not its change time. */
function sameFile(a: FileIdentity, b: FileIdentity): boolean {
  // Deleting a link to a file changes that time too, and leaves the content alone; on Windows, so do virus scanners.
  const sameTime = a.changed === b.changed || a.links !== b.links || process.platform === 'win32'
  return (
    a.device === b.device && a.inode === b.inode && a.size === b.size && a.modified === b.modified && sameTime
  )
}

function changedError(path: string): DiffusionError {
  return new DiffusionError(
    'IO',
    `${path}: was changed or replaced while it was read. Is it still being written?`,
  )
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

/** An error for a file that is shorter than its header says. */
export function cutShort(path: string, size: number, expected: number): DiffusionError {
  return badFormat(path, `truncated: the file ends after ${size} of ${expected} bytes: download it again`)
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
