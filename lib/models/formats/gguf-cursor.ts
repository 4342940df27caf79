import { StringDecoder } from 'node:string_decoder'
import { quote } from '../../quote.js'
import { badFormat } from './fail.js'

/** Thrown when the buffer ends before the header does. */
export class NeedMore extends Error {}

/** Maximum length of a string value: our own files store a vocabulary as one string. */
const MAX_STRING = 64 << 20
/** Maximum length of an array: vocabularies of language models have about 250,000 elements. */
const MAX_ARRAY = 1_000_000
/** Maximum number of array elements in a header. */
const MAX_ELEMENTS = 4_000_000
/** Longer arrays are read over: no model has any that matter here, and they would take gigabytes. */
const MAX_KEPT = 1 << 18
/** Elements, or a fraction of the bytes of a string, between two points where the work can be interrupted. */
const STRIDE = 1024
/** Maximum depth of nested arrays. */
const MAX_DEPTH = 4

const [STRING, ARRAY] = [8, 9]

const FIXED: readonly ((c: Cursor, what: string) => unknown)[] = [
  (c) => c.bytes(1).readUInt8(),
  (c) => c.bytes(1).readInt8(),
  (c) => c.bytes(2).readUInt16LE(),
  (c) => c.bytes(2).readInt16LE(),
  (c) => c.bytes(4).readUInt32LE(),
  (c) => c.bytes(4).readInt32LE(),
  (c) => c.bytes(4).readFloatLE(),
  (c, what) => c.bool(what),
]

/** Reads and validates GGUF's little-endian values in order, from the beginning of a file. */
export class Cursor {
  position = 0
  private elements = 0

  /**
   * @param buffer the first bytes of the file
   * @param size size of the whole file, an upper bound for every length in it
   */
  constructor(
    private readonly path: string,
    private readonly buffer: Buffer,
    private readonly size: number,
  ) {}

  bytes(count: number): Buffer {
    const end = this.position + count
    if (end > this.buffer.length) throw new NeedMore()
    const bytes = this.buffer.subarray(this.position, end)
    this.position = end
    return bytes
  }

  u32(): number {
    return this.bytes(4).readUInt32LE()
  }

  safeU64(what: string): number {
    const value = this.bytes(8).readBigUInt64LE()
    if (value > BigInt(Number.MAX_SAFE_INTEGER))
      throw badFormat(this.path, `expected ${what} below 2^53, found ${value}`)
    return Number(value)
  }

  length(what: string, limit: number): number {
    const value = this.bytes(8).readBigUInt64LE()
    if (value > BigInt(limit))
      throw badFormat(this.path, `expected ${what} of at most ${limit}, found ${value}`)
    if (value > BigInt(this.size - this.position)) {
      throw badFormat(
        this.path,
        `truncated: ${what} is ${value}, but only ${this.size - this.position} bytes follow`,
      )
    }
    return Number(value)
  }

  /** A key or a tensor's name in strict UTF-8. */
  name(what: string, limit: number): string {
    const bytes = this.bytes(this.length(`length of a ${what}`, limit))
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
    } catch (error) {
      throw badFormat(
        this.path,
        `expected a ${what} in UTF-8, found ${quote(bytes.toString('latin1'), 40)}`,
        error,
      )
    }
  }

  bool(what: string): boolean {
    const value = this.bytes(1).readUInt8()
    if (value > 1) throw badFormat(this.path, `expected 0 or 1 for ${what}, found ${value}`)
    return value === 1
  }

  /**
   * A metadata value of GGUF value type `type`. 64-bit integers outside the safe range become bigints, and very long
   * arrays undefined.
   */
  *value(what: string, type: number, depth = 0): Generator<void, unknown, void> {
    if (type === STRING) return yield* this.string(what)
    if (type === ARRAY) return yield* this.array(what, depth)
    return this.scalar(what, type)
  }

  private scalar(what: string, type: number): unknown {
    if (type === 10) return narrow(this.bytes(8).readBigUInt64LE())
    if (type === 11) return narrow(this.bytes(8).readBigInt64LE())
    if (type === 12) return this.bytes(8).readDoubleLE()
    const read = FIXED[type]
    if (!read) throw badFormat(this.path, `expected a value type from 0 to 12 for ${what}, found ${type}`)
    return read(this, what)
  }

  private *string(what: string): Generator<void, string, void> {
    const bytes = this.bytes(this.length(`length of ${what}`, MAX_STRING))
    if (bytes.length <= 1024 * STRIDE) return bytes.toString('utf8')
    const decoder = new StringDecoder('utf8')
    const pieces: string[] = []
    for (let at = 0; at < bytes.length; at += 256 * STRIDE) {
      pieces.push(decoder.write(bytes.subarray(at, at + 256 * STRIDE)))
      yield
    }
    return pieces.join('') + decoder.end()
  }

  private *array(what: string, depth: number): Generator<void, unknown[] | undefined, void> {
    if (depth === MAX_DEPTH)
      throw badFormat(this.path, `expected arrays at most ${MAX_DEPTH} deep for ${what}, found more`)
    const type = this.u32()
    const length = this.length(`number of elements of ${what}`, MAX_ARRAY)
    this.elements += length
    if (this.elements > MAX_ELEMENTS)
      throw badFormat(this.path, `expected at most ${MAX_ELEMENTS} array elements in total`)
    const kept = length <= MAX_KEPT
    const values: unknown[] = []
    for (let i = 0; i < length; i++) {
      if (i % STRIDE === STRIDE - 1) yield
      const value =
        type === STRING || type === ARRAY ? yield* this.value(what, type, depth + 1) : this.scalar(what, type)
      if (kept) values.push(value)
    }
    return kept ? values : undefined
  }
}

function narrow(value: bigint): number | bigint {
  const number = Number(value)
  return Number.isSafeInteger(number) ? number : value
}
