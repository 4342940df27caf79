import { printable, quote, show } from '../../quote.js'
import { badFormat } from './fail.js'
import { applyScales } from './scales.js'
import {
  checkOffsets,
  countElements,
  readExactly,
  withFile,
  type StoredTensor,
  type TensorFile,
} from './tensor-file.js'

/**
 * Reads the header of a safetensors file: an 8-byte little-endian length, then JSON
 * `{ "name": { "dtype", "shape", "data_offsets": [begin, end] }, "__metadata__": { … } }`, then the data without holes.
 * https://github.com/huggingface/safetensors#format
 */

/** The limit of the reference implementation. */
const MAX_HEADER = 100_000_000

/** Bits of one element. Only floating-point types are weights, but files may contain others (position_ids). */
// prettier-ignore
const BITS: ReadonlyMap<string, number> = new Map([
  ['BOOL', 8], ['U8', 8], ['I8', 8], ['U16', 16], ['I16', 16], ['U32', 32], ['I32', 32], ['U64', 64], ['I64', 64],
  ['F4', 4], ['F6_E2M3', 6], ['F6_E3M2', 6], ['F8_E4M3', 8], ['F8_E5M2', 8], ['F8_E8M0', 8], ['F8_E4M3FNUZ', 8],
  ['F8_E5M2FNUZ', 8], ['F16', 16], ['BF16', 16], ['F32', 32], ['F64', 64], ['C64', 64],
])

export function readSafetensors(path: string, fileIndex = 0): Promise<TensorFile> {
  return withFile(path, async (file, size) => {
    if (size < 8) throw badFormat(path, `truncated: expected at least 8 bytes, found ${size}`)
    const length = (await readExactly(path, file, 0, 8)).readBigUInt64LE()
    if (length > MAX_HEADER) {
      throw badFormat(path, `expected a header of at most ${MAX_HEADER} bytes, found a length of ${length}`)
    }
    const headerBytes = Number(length)
    if (headerBytes > size - 8) {
      throw badFormat(path, `truncated: its header says ${headerBytes} bytes, but only ${size - 8} follow`)
    }
    const header = parseHeader(path, await readExactly(path, file, 8, headerBytes))
    const entries = readEntries(path, header, 8 + headerBytes, size, fileIndex)
    await applyScales(path, file, entries.tensors)
    return { path, format: 'safetensors', ...entries }
  })
}

function parseHeader(path: string, bytes: Buffer): Record<string, unknown> {
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (error) {
    throw badFormat(path, 'expected a header in UTF-8, found other bytes', error)
  }
  if (!text.startsWith('{'))
    throw badFormat(path, `expected a header that begins with "{", found ${quote(text, 12)}`)
  let header: unknown
  try {
    header = JSON.parse(text)
  } catch (error) {
    throw badFormat(path, `header is not valid JSON: ${printable((error as Error).message)}`, error)
  }
  // JSON.parse silently keeps the last of two equal keys.
  const repeated = repeatedKey(text)
  if (repeated !== undefined) throw badFormat(path, `header gives ${quote(repeated)} twice`)
  return header as Record<string, unknown>
}

/** The first key that occurs twice in an object of `text`, which must be valid JSON. */
export function repeatedKey(text: string): string | undefined {
  // The keys of each open object, and null for each open array.
  const open: (Set<string> | null)[] = []
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (c === 0x7b) open.push(new Set())
    else if (c === 0x5b) open.push(null)
    else if (c === 0x7d || c === 0x5d) open.pop()
    else if (c === 0x22) {
      const begin = i
      for (i++; text.charCodeAt(i) !== 0x22; i++) if (text.charCodeAt(i) === 0x5c) i++
      let next = i + 1
      while (' \t\r\n'.includes(text[next] ?? 'x')) next++
      if (text.charCodeAt(next) !== 0x3a) continue
      const key = JSON.parse(text.slice(begin, i + 1)) as string
      const keys = open.at(-1)
      if (keys?.has(key)) return key
      keys?.add(key)
    }
  }
  return undefined
}

function readEntries(
  path: string,
  header: Record<string, unknown>,
  dataStart: number,
  size: number,
  file: number,
) {
  const tensors = new Map<string, StoredTensor>()
  const metadata = new Map<string, unknown>()
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') readMetadata(path, entry, metadata)
    else tensors.set(name, readEntry(path, name, entry, dataStart, size, file))
  }
  const end = checkOffsets(path, tensors.values(), dataStart, 0)
  if (end !== size) {
    throw badFormat(path, `expected the tensors to end at byte ${size}, the end of the file, found ${end}`)
  }
  return { tensors, metadata }
}

function readMetadata(path: string, entry: unknown, metadata: Map<string, unknown>): void {
  if (!isObject(entry)) throw badFormat(path, `expected __metadata__ to be an object, found ${show(entry)}`)
  for (const [key, value] of Object.entries(entry)) {
    if (typeof value !== 'string') {
      throw badFormat(path, `expected a string for __metadata__ key ${quote(key)}, found ${show(value)}`)
    }
    metadata.set(key, value)
  }
}

function readEntry(
  path: string,
  name: string,
  entry: unknown,
  dataStart: number,
  size: number,
  file: number,
): StoredTensor {
  const fail = (expected: string, found: unknown) =>
    badFormat(path, `tensor ${quote(name)}: expected ${expected}, found ${show(found)}`)
  if (!isObject(entry)) throw fail('an object', entry)
  // Own properties only, because keys such as `__proto__` come from the file.
  const own = (key: string) => (Object.hasOwn(entry, key) ? entry[key] : undefined)

  const dtype = own('dtype')
  const bits = typeof dtype === 'string' ? BITS.get(dtype) : undefined
  if (bits === undefined) throw fail(`dtype to be one of ${[...BITS.keys()].join(', ')}`, dtype)

  const shape = own('shape')
  if (!isIndexList(shape)) throw fail('shape to be a list of non-negative integers', shape)
  const bitCount = countElements([...shape, bits])
  if (bitCount === undefined) throw fail('a shape whose bytes can be counted', shape)
  if (bitCount % 8 !== 0) throw fail('a whole number of bytes', `${bitCount} bits`)

  const offsets = own('data_offsets')
  if (!isIndexList(offsets) || offsets.length !== 2)
    throw fail('data_offsets to be two non-negative integers', offsets)
  const [begin, end] = offsets as [number, number]
  if (begin > end) throw fail('data_offsets in ascending order', offsets)
  if (end > size - dataStart)
    throw fail(`data_offsets within the file's ${size - dataStart} bytes of data`, offsets)
  if (end - begin !== bitCount / 8) {
    throw fail(`${bitCount / 8} bytes for ${String(dtype)} of shape [${shape}]`, end - begin)
  }
  return {
    name,
    type: String(dtype).toLowerCase(),
    shape,
    file,
    offset: dataStart + begin,
    bytes: end - begin,
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isIndexList(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((v) => Number.isSafeInteger(v) && v >= 0)
}
