import { quote, show } from '../../quote.js'
import { badFormat } from './fail.js'
import { applyScales } from './scales.js'
import { parseJson } from './json.js'
import { notTensors } from './other-files.js'
import {
  checkOffsets,
  countElements,
  cutShort,
  MAX_NAME,
  MAX_TENSORS,
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

const MAX_RANK = 16
/** Maximum number of metadata entries. */
const MAX_PAIRS = 65_536

/** Bits of one element. Only floating-point types are weights, but files may contain others (position_ids). */
// prettier-ignore
const BITS: ReadonlyMap<string, number> = new Map([
  ['BOOL', 8], ['U8', 8], ['I8', 8], ['U16', 16], ['I16', 16], ['U32', 32], ['I32', 32], ['U64', 64], ['I64', 64],
  ['F4', 4], ['F6_E2M3', 6], ['F6_E3M2', 6], ['F8_E4M3', 8], ['F8_E5M2', 8], ['F8_E8M0', 8], ['F8_E4M3FNUZ', 8],
  ['F8_E5M2FNUZ', 8], ['F16', 16], ['BF16', 16], ['F32', 32], ['F64', 64], ['C64', 64],
])

export function readSafetensors(path: string, fileIndex = 0): Promise<TensorFile> {
  return withFile(path, async (file, size, identity) => {
    if (size < 8) throw badFormat(path, `truncated: expected at least 8 bytes, found ${size}`)
    const head = await readExactly(path, file, 0, Math.min(size, 64))
    const other = notTensors(path, head)
    if (other) throw other
    const length = head.readBigUInt64LE()
    if (length > MAX_HEADER) {
      throw badFormat(path, `expected a header of at most ${MAX_HEADER} bytes, found a length of ${length}`)
    }
    const headerBytes = Number(length)
    if (headerBytes > size - 8) {
      const message = `truncated: the file ends after ${size} bytes, but its header alone takes ${8 + headerBytes}: download it again`
      throw badFormat(path, message)
    }
    const bytes = await readExactly(path, file, 8, headerBytes)
    if (bytes[0] !== 0x7b) {
      const found = quote(bytes.toString('utf8', 0, 48), 12)
      throw badFormat(path, `expected a header that begins with "{", found ${found}`)
    }
    const header = await readHeader(path, bytes, size, fileIndex)
    await applyScales(path, file, header.tensors)
    return { path, identity, format: 'safetensors', ...header }
  })
}

async function readHeader(path: string, bytes: Buffer, size: number, file: number) {
  const dataStart = 8 + bytes.length
  const tensors = new Map<string, StoredTensor>()
  const metadata = new Map<string, unknown>()
  const onField = (name: string, entry: unknown) => {
    if (name === '__metadata__') return readMetadata(path, entry, metadata)
    if (tensors.size === MAX_TENSORS)
      throw badFormat(path, `expected at most ${MAX_TENSORS} tensors, found more`)
    if (Buffer.byteLength(name) > MAX_NAME)
      throw badFormat(path, `expected names of at most ${MAX_NAME} bytes, found ${quote(name)}`)
    tensors.set(name, readEntry(path, name, entry, dataStart, file))
  }
  await parseJson(path, bytes, { what: 'header', unique: true, onField })
  const end = checkOffsets(path, tensors.values(), dataStart, 0)
  if (end > size) throw cutShort(path, size, end)
  if (end < size) {
    throw badFormat(path, `expected the tensors to end at byte ${size}, the end of the file, found ${end}`)
  }
  return { tensors, metadata }
}

function readMetadata(path: string, entry: unknown, metadata: Map<string, unknown>): void {
  if (!isObject(entry)) throw badFormat(path, `expected __metadata__ to be an object, found ${show(entry)}`)
  const entries = Object.entries(entry)
  if (entries.length > MAX_PAIRS)
    throw badFormat(path, `expected at most ${MAX_PAIRS} entries in __metadata__, found ${entries.length}`)
  for (const [key, value] of entries) {
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
  if (shape.length > MAX_RANK) throw fail(`at most ${MAX_RANK} dimensions`, shape.length)
  const bitCount = countElements([...shape, bits])
  if (bitCount === undefined) throw fail('a shape whose bytes can be counted', shape)
  if (bitCount % 8 !== 0) throw fail('a whole number of bytes', `${bitCount} bits`)

  const offsets = own('data_offsets')
  if (!isIndexList(offsets) || offsets.length !== 2)
    throw fail('data_offsets to be two non-negative integers', offsets)
  const [begin, end] = offsets as [number, number]
  if (begin > end) throw fail('data_offsets in ascending order', offsets)
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
