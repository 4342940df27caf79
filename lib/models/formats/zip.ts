import { promisify } from 'node:util'
import { inflateRaw } from 'node:zlib'
import type { FileHandle } from 'node:fs/promises'
import { quote } from '../../quote.js'
import { badFormat, unsupported } from './fail.js'
import { readExactly } from './tensor-file.js'
import { TimeSlices } from './time-slices.js'

/**
 * Reads the directory of a zip archive, including zip64, without reading its entries. torch.save() stores them without
 * compression, so that tensors are read at their offsets in the archive.
 * https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
 */

const MAX_ENTRIES = 100_000
const MAX_DIRECTORY = 32 << 20
/** The end record and a comment of the maximum length. */
const MAX_TAIL = 22 + 0xffff

const END = 0x06054b50
const END_64_LOCATOR = 0x07064b50
const END_64 = 0x06064b50
const CENTRAL = 0x02014b50
const LOCAL = 0x04034b50
const STORED = 0
const DEFLATED = 8

export interface ZipEntry {
  name: string
  /** Whether the bytes of the archive are those of the entry. */
  stored: boolean
  /** 0: stored; 8: deflated. */
  method: number
  /** Bytes in the archive. */
  packedBytes: number
  /** Bytes of the content. */
  bytes: number
  /** Where the local header begins. */
  header: number
}

export class ZipArchive {
  private constructor(
    readonly path: string,
    readonly entries: ReadonlyMap<string, ZipEntry>,
    private readonly file: FileHandle,
    /** Where the directory begins: entries end before it. */
    private readonly end: number,
  ) {}

  static async open(path: string, file: FileHandle, size: number): Promise<ZipArchive> {
    const { offset, bytes, count } = await findDirectory(path, file, size)
    if (count > MAX_ENTRIES)
      throw badFormat(path, `expected a zip archive of at most ${MAX_ENTRIES} entries, found ${count}`)
    if (bytes > MAX_DIRECTORY)
      throw badFormat(path, `expected a zip directory of at most ${MAX_DIRECTORY} bytes, found ${bytes}`)
    const entries = await readDirectory(path, await readExactly(path, file, offset, bytes), count)
    return new ZipArchive(path, entries, file, offset)
  }

  /** Where the bytes of an entry begin in the file. */
  async locate(entry: ZipEntry): Promise<number> {
    const fail = (found: string) =>
      badFormat(this.path, `zip entry ${quote(entry.name)}: expected its header and data, found ${found}`)
    if (entry.header + 30 > this.end) throw fail(`byte ${entry.header}, which is not before the directory`)
    const header = await readExactly(this.path, this.file, entry.header, 30)
    if (header.readUInt32LE() !== LOCAL) throw fail('other bytes')
    const start = entry.header + 30 + header.readUInt16LE(26) + header.readUInt16LE(28)
    if (entry.packedBytes > this.end - start)
      throw fail(`${Math.max(0, this.end - start)} bytes of ${entry.packedBytes}`)
    return start
  }

  /** The content of a compressed entry of at most `limit` bytes. */
  async inflate(entry: ZipEntry, limit: number): Promise<Buffer> {
    const name = `zip entry ${quote(entry.name)}`
    if (entry.method !== DEFLATED)
      throw unsupported(
        this.path,
        `${name} has the compression method ${entry.method}, which is not supported`,
      )
    if (entry.bytes > limit || entry.packedBytes > limit)
      throw badFormat(this.path, `${name}: expected at most ${limit} bytes, found ${entry.bytes}`)
    const packed = await readExactly(this.path, this.file, await this.locate(entry), entry.packedBytes)
    let content: Buffer
    try {
      content = await promisify(inflateRaw)(packed, { maxOutputLength: Math.max(1, entry.bytes) })
    } catch (error) {
      throw badFormat(this.path, `${name} cannot be decompressed to its ${entry.bytes} bytes`, error)
    }
    if (content.length === entry.bytes) return content
    throw badFormat(this.path, `${name}: expected ${entry.bytes} bytes, found ${content.length}`)
  }
}

interface Directory {
  offset: number
  bytes: number
  count: number
}

async function findDirectory(path: string, file: FileHandle, size: number): Promise<Directory> {
  const length = Math.min(size, MAX_TAIL)
  const tail = await readExactly(path, file, size - length, length)
  let at = length - 22
  while (at >= 0 && !(tail.readUInt32LE(at) === END && at + 22 + tail.readUInt16LE(at + 20) === length)) at--
  if (at < 0)
    throw badFormat(
      path,
      'truncated: expected the directory of a zip archive at the end of the file, found none',
    )
  let directory: Directory = {
    count: tail.readUInt16LE(at + 10),
    bytes: tail.readUInt32LE(at + 12),
    offset: tail.readUInt32LE(at + 16),
  }
  let end = size - length + at
  if (at >= 20 && tail.readUInt32LE(at - 20) === END_64_LOCATOR) {
    const record = Number(tail.readBigUInt64LE(at - 12))
    if (record > end - 56)
      throw badFormat(path, `expected the zip64 record before byte ${end}, found ${record}`)
    const bytes = await readExactly(path, file, record, 56)
    if (bytes.readUInt32LE() !== END_64) throw badFormat(path, `expected a zip64 record at byte ${record}`)
    directory = {
      count: Number(bytes.readBigUInt64LE(32)),
      bytes: Number(bytes.readBigUInt64LE(40)),
      offset: Number(bytes.readBigUInt64LE(48)),
    }
    end = record
  }
  if (directory.bytes > end || directory.offset > end - directory.bytes) {
    throw badFormat(
      path,
      `expected the directory of a zip archive before byte ${end}, found ${directory.bytes} bytes at ${directory.offset}`,
    )
  }
  return directory
}

async function readDirectory(path: string, bytes: Buffer, count: number): Promise<Map<string, ZipEntry>> {
  const slices = new TimeSlices()
  const entries = new Map<string, ZipEntry>()
  let at = 0
  for (let i = 0; i < count; i++) {
    if (i % 256 === 0) await slices.pause()
    if (at + 46 > bytes.length || bytes.readUInt32LE(at) !== CENTRAL)
      throw badFormat(path, `expected ${count} entries in the directory of the zip archive, found ${i}`)
    const nameEnd = at + 46 + bytes.readUInt16LE(at + 28)
    const extraEnd = nameEnd + bytes.readUInt16LE(at + 30)
    const next = extraEnd + bytes.readUInt16LE(at + 32)
    if (next > bytes.length) throw badFormat(path, `zip entry ${i} goes on after the end of the directory`)
    const name = bytes.toString('utf8', at + 46, nameEnd)
    const method = bytes.readUInt16LE(at + 10)
    if (bytes.readUInt16LE(at + 8) & 1) throw unsupported(path, `zip entry ${quote(name)} is encrypted`)
    const wide = wideFields(bytes.subarray(nameEnd, extraEnd))
    const field = (offset: number) => {
      const value = bytes.readUInt32LE(at + offset)
      return value === 0xffffffff ? (wide.shift() ?? value) : value
    }
    // The order in the zip64 field: content, packed, header.
    const entry: ZipEntry = {
      bytes: field(24),
      packedBytes: field(20),
      header: field(42),
      name,
      method,
      stored: method === STORED,
    }
    if (entry.stored && entry.bytes !== entry.packedBytes)
      throw badFormat(
        path,
        `zip entry ${quote(name)} is stored, but has ${entry.packedBytes} of ${entry.bytes} bytes`,
      )
    if (entries.has(name)) throw badFormat(path, `zip entry ${quote(name)} is there twice`)
    entries.set(name, entry)
    at = next
  }
  return entries
}

/** The 64-bit numbers of the zip64 field, in their order. */
function wideFields(extra: Buffer): number[] {
  for (let at = 0; at + 4 <= extra.length;) {
    const end = Math.min(extra.length, at + 4 + extra.readUInt16LE(at + 2))
    if (extra.readUInt16LE(at) === 1) {
      const numbers: number[] = []
      for (let i = at + 4; i + 8 <= end; i += 8) numbers.push(Number(extra.readBigUInt64LE(i)))
      return numbers
    }
    at = end
  }
  return []
}
