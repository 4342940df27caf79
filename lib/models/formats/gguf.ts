import { quote, show } from '../../quote.js'
import { inSlices } from '../../event-loop.js'
import { badFormat, unsupported } from './fail.js'
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
import { Cursor, NeedMore } from './gguf-cursor.js'
import { GGML_TYPES } from './gguf-types.js'

/**
 * Reads the header of a GGUF file, versions 2 and 3, little-endian:
 * https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 *
 * node-diffusion's own files have two more metadata keys:
 * - `node_diffusion.channels_last`, an array of strings: names of convolution kernels stored (O, kh, kw, I), so that
 *   their dimensions in the file, innermost first, are [I, kw, kh, O] and a quantized block runs along the input
 *   channels. Every other 4-D tensor is (O, I, kh, kw), as ggml and stable-diffusion.cpp have it.
 * - `node_diffusion.config`, a string: see stored-config.ts.
 *
 * ComfyUI-GGUF's tools store tensors whose rows do not fill blocks as rows of 256 elements, in the order that they have
 * anyway, and write their shapes in torch order as `comfy.gguf.orig_shape.NAME`.
 */
export const CHANNELS_LAST_KEY = 'node_diffusion.channels_last'
const ORIGINAL_SHAPE = 'comfy.gguf.orig_shape.'

/** ggml's types by their numbers: name, and the number of elements and bytes of a block. */
// prettier-ignore
const TYPES: ReadonlyMap<number, readonly [name: string, elements: number, bytes: number]> = new Map([
  ...Object.entries(GGML_TYPES).map(([name, t]) => [t.number, [name, t.elements, t.bytes]] as const),
  // These types are not weights, but files may contain them (position_ids).
  [24, ['i8', 1, 1]], [25, ['i16', 1, 2]], [26, ['i32', 1, 4]], [27, ['i64', 1, 8]], [28, ['f64', 1, 8]],
])

/** Types of ggml that the engine does not support, for messages. */
// prettier-ignore
const OTHER_TYPES: ReadonlyMap<number, string> = new Map([
  [4, 'q4_2'], [5, 'q4_3'], [9, 'q8_1'], [15, 'q8_k'], [16, 'iq2_xxs'], [17, 'iq2_xs'], [18, 'iq3_xxs'],
  [19, 'iq1_s'], [20, 'iq4_nl'], [21, 'iq3_s'], [22, 'iq2_s'], [23, 'iq4_xs'], [29, 'iq1_m'], [31, 'q4_0_4_4'],
  [32, 'q4_0_4_8'], [33, 'q4_0_8_8'], [34, 'tq1_0'], [35, 'tq2_0'], [39, 'mxfp4'], [40, 'nvfp4'], [41, 'q1_0'],
])

/** The types that the engine supports, for messages. */
const READABLE = 'f32, f16, bf16, q8_0, q6_k, q5_k, q5_1, q5_0, q4_k, q4_1, q4_0, q3_k or q2_k'

// Limits far above any real file. They bound the work that a manipulated header can cause.
const MAX_HEADER = 256 << 20
const FIRST_READ = 1 << 20
const MAX_PAIRS = 65_536
const MAX_KEY = 1024
const MAX_DIMENSIONS = 4
const MAX_ALIGNMENT = 1 << 20
/** Tensors or metadata pairs between two points where the work can be interrupted. */
const STRIDE = 256

export function readGguf(path: string, fileIndex = 0): Promise<TensorFile> {
  return withFile(path, async (file, size, identity) => {
    // The length of the header is unknown: parse the beginning of the file, and a longer one if it was too short.
    for (let length = Math.min(size, FIRST_READ); ; length = Math.min(size, length * 4)) {
      const bytes = await readExactly(path, file, 0, length)
      try {
        return { path, identity, format: 'gguf', ...(await inSlices(parse(path, bytes, size, fileIndex))) }
      } catch (error) {
        if (!(error instanceof NeedMore)) throw error
        if (length === size)
          throw badFormat(path, `truncated: the header goes on at byte ${size}, the end of the file`)
        if (length >= MAX_HEADER)
          throw badFormat(path, `expected a header of at most ${MAX_HEADER} bytes, found more`)
      }
    }
  })
}

function* parse(
  path: string,
  bytes: Buffer,
  size: number,
  file: number,
): Generator<void, Pick<TensorFile, 'tensors' | 'metadata'>, void> {
  const cursor = new Cursor(path, bytes, size)
  checkVersion(path, cursor)
  const tensorCount = cursor.length('number of tensors', MAX_TENSORS)
  const pairCount = cursor.length('number of metadata pairs', MAX_PAIRS)

  const metadata = new Map<string, unknown>()
  for (let i = 0; i < pairCount; i++) {
    const key = cursor.name('metadata key', MAX_KEY)
    if (metadata.has(key)) throw badFormat(path, `metadata key ${quote(key)} is given twice`)
    metadata.set(key, yield* cursor.value(`metadata ${quote(key)}`, cursor.u32()))
    if (i % STRIDE === STRIDE - 1) yield
  }
  const alignment = readAlignment(path, metadata)

  const tensors = new Map<string, StoredTensor>()
  for (let i = 0; i < tensorCount; i++) {
    const tensor = readTensor(path, cursor, alignment, file)
    if (tensors.has(tensor.name)) throw badFormat(path, `tensor ${quote(tensor.name)} is described twice`)
    tensors.set(tensor.name, tensor)
    if (i % STRIDE === STRIDE - 1) yield
  }

  const dataStart = Math.ceil(cursor.position / alignment) * alignment
  for (const tensor of tensors.values()) tensor.offset += dataStart
  const end = checkOffsets(path, tensors.values(), dataStart, alignment - 1)
  if (tensors.size > 0 && end > size) throw cutShort(path, size, end)
  restoreShapes(path, tensors, metadata)
  markChannelsLast(path, tensors, metadata)
  return { tensors, metadata }
}

function checkVersion(path: string, cursor: Cursor): void {
  const magic = cursor.bytes(4).toString('latin1')
  if (magic !== 'GGUF')
    throw badFormat(path, `expected a file that begins with "GGUF", found ${quote(magic)}`)
  const version = cursor.u32()
  // In the other byte order, 2 and 3 are multiples of 2^24.
  if (version !== 0 && (version & 0xffff) === 0) {
    throw unsupported(path, 'this GGUF file is big-endian; write it again on a little-endian machine')
  }
  if (version !== 2 && version !== 3)
    throw unsupported(path, `expected GGUF version 2 or 3, found ${version}`)
}

function readAlignment(path: string, metadata: Map<string, unknown>): number {
  const alignment = metadata.get('general.alignment') ?? 32
  if (
    typeof alignment === 'number' &&
    alignment >= 8 &&
    alignment <= MAX_ALIGNMENT &&
    Number.isInteger(Math.log2(alignment))
  ) {
    return alignment
  }
  throw badFormat(
    path,
    `expected general.alignment to be a power of two from 8 to ${MAX_ALIGNMENT}, found ${show(alignment)}`,
  )
}

function readTensor(path: string, cursor: Cursor, alignment: number, file: number): StoredTensor {
  const name = cursor.name('tensor name', MAX_NAME)
  const fail = (expected: string, found: unknown) =>
    badFormat(path, `tensor ${quote(name)}: expected ${expected}, found ${show(found)}`)

  const dimensions = cursor.u32()
  if (dimensions > MAX_DIMENSIONS) throw fail(`at most ${MAX_DIMENSIONS} dimensions`, dimensions)
  const shape: number[] = []
  for (let i = 0; i < dimensions; i++) shape.unshift(cursor.safeU64(`a dimension of tensor ${quote(name)}`))

  const number = cursor.u32()
  const type = TYPES.get(number)
  if (!type) {
    const other = OTHER_TYPES.get(number)
    if (other) throw unsupported(path, `tensor ${quote(name)}: expected type ${READABLE}, found ${other}`)
    throw fail('a type that ggml defines', number)
  }
  const [typeName, blockElements, blockBytes] = type
  const row = shape.at(-1) ?? 1
  if (row % blockElements !== 0)
    throw fail(`rows of a multiple of ${blockElements} elements for ${typeName}`, row)
  const count = countElements(shape)
  const bytes = count === undefined ? undefined : (count / blockElements) * blockBytes
  if (bytes === undefined || !Number.isSafeInteger(bytes))
    throw fail('a shape whose bytes can be counted', shape)

  const offset = cursor.safeU64(`offset of tensor ${quote(name)}`)
  if (offset % alignment !== 0) throw fail(`an offset that is a multiple of ${alignment}`, offset)
  return { name, type: typeName, shape, file, offset, bytes }
}

function restoreShapes(
  path: string,
  tensors: Map<string, StoredTensor>,
  metadata: Map<string, unknown>,
): void {
  for (const [key, shape] of metadata) {
    if (!key.startsWith(ORIGINAL_SHAPE)) continue
    const tensor = tensors.get(key.slice(ORIGINAL_SHAPE.length))
    if (!tensor) continue
    const lengths = Array.isArray(shape) ? (shape as unknown[]) : []
    const isShape = lengths.length > 0 && lengths.length <= MAX_DIMENSIONS && lengths.every(isLength)
    if (!isShape || countElements(lengths as number[]) !== countElements(tensor.shape)) {
      throw badFormat(
        path,
        `metadata ${quote(key)}: expected a shape of ${countElements(tensor.shape)} elements, found ${show(shape)}`,
      )
    }
    tensor.shape = lengths as number[]
  }
}

const isLength = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0

function markChannelsLast(
  path: string,
  tensors: Map<string, StoredTensor>,
  metadata: Map<string, unknown>,
): void {
  const names = metadata.get(CHANNELS_LAST_KEY)
  if (names === undefined) return
  if (!Array.isArray(names))
    throw badFormat(path, `expected ${CHANNELS_LAST_KEY} to be an array, found ${show(names)}`)
  for (const name of new Set<unknown>(names)) {
    const tensor = typeof name === 'string' ? tensors.get(name) : undefined
    if (!tensor)
      throw badFormat(path, `${CHANNELS_LAST_KEY} names ${show(name)}, which is not a tensor of this file`)
    if (tensor.shape.length !== 4) {
      throw badFormat(
        path,
        `tensor ${quote(tensor.name)}: expected 4 dimensions for a channels-last kernel, found [${tensor.shape}]`,
      )
    }
    const [outputs, height, width, inputs] = tensor.shape as [number, number, number, number]
    tensor.shape = [outputs, inputs, height, width]
    tensor.channelsLast = true
  }
}
