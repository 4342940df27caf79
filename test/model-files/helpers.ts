import { mkdirSync, openSync, closeSync, ftruncateSync, writeFileSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { DiffusionError, type DiffusionErrorCode } from '../../lib/errors.js'

/** Writes files for the tests. They have valid headers; the data is missing if only sizes matter (sparse files). */

export interface TestTensor {
  shape: number[]
  /** The name in safetensors, in upper case, or the number in ggml. */
  type?: string | number
}

const BYTES: Record<string, number> = { F64: 8, I64: 8, F32: 4, I32: 4, F16: 2, BF16: 2, F8_E4M3FNUZ: 1 }

export const count = (shape: number[]) => shape.reduce((a, b) => a * b, 1)

/** The header of a valid safetensors file. */
export function safetensorsHeader(tensors: Record<string, TestTensor>, metadata?: Record<string, string>) {
  const header: Record<string, unknown> = metadata ? { __metadata__: metadata } : {}
  let offset = 0
  for (const [name, { shape, type = 'F16' }] of Object.entries(tensors)) {
    const end = offset + count(shape) * BYTES[type]
    header[name] = { dtype: type, shape, data_offsets: [offset, end] }
    offset = end
  }
  return { header, dataBytes: offset }
}

/** The length of the header and the header. */
export function safetensorsBytes(header: object | string): Buffer {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(json.length))
  return Buffer.concat([length, json])
}

/** Writes `bytes` and extends the file by `extra` bytes without writing them. */
export function writeSparse(path: string, bytes: Buffer, extra = 0): string {
  mkdirSync(dirname(path), { recursive: true })
  const file = openSync(path, 'w')
  writeSync(file, bytes)
  ftruncateSync(file, bytes.length + extra)
  closeSync(file)
  return path
}

export function writeSafetensors(
  path: string,
  tensors: Record<string, TestTensor>,
  metadata?: Record<string, string>,
) {
  const { header, dataBytes } = safetensorsHeader(tensors, metadata)
  return writeSparse(path, safetensorsBytes(header), dataBytes)
}

export function writeJson(path: string, value: unknown): string {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, typeof value === 'string' ? value : JSON.stringify(value))
  return path
}

// GGUF

export const u8 = (v: number) => Buffer.from([v])
export const u32 = (v: number) => Buffer.from(new Uint32Array([v]).buffer)
export const u64 = (v: number | bigint) => Buffer.from(new BigUint64Array([BigInt(v)]).buffer)
export const text = (s: string) => Buffer.concat([u64(Buffer.byteLength(s)), Buffer.from(s)])
/** A metadata pair: key, number of the value's type, its bytes. */
export const pair = (key: string, type: number, value: Buffer) => Buffer.concat([text(key), u32(type), value])
export const stringPair = (key: string, value: string) => pair(key, 8, text(value))
export const stringsPair = (key: string, values: string[]) =>
  pair(key, 9, Buffer.concat([u32(8), u64(values.length), ...values.map(text)]))

/** Name, elements and bytes of a block by ggml's numbers of types. */
// prettier-ignore
export const GGML_BLOCKS: Record<number, readonly [string, number, number]> = {
  0: ['f32', 1, 4], 1: ['f16', 1, 2], 30: ['bf16', 1, 2], 2: ['q4_0', 32, 18], 3: ['q4_1', 32, 20], 6: ['q5_0', 32, 22],
  7: ['q5_1', 32, 24], 8: ['q8_0', 32, 34], 10: ['q2_k', 256, 84], 11: ['q3_k', 256, 110], 12: ['q4_k', 256, 144],
  13: ['q5_k', 256, 176], 14: ['q6_k', 256, 210], 27: ['i64', 1, 8],
}

export interface GgufOptions {
  version?: number
  pairs?: Buffer[]
  alignment?: number
  tensorCount?: number | bigint
  pairCount?: number | bigint
  /** Changes of the descriptions of tensors. */
  info?: Record<string, { dims?: (number | bigint)[]; type?: number; offset?: number | bigint }>
}

/** A padded GGUF header, and the number of data bytes that follow it. Shapes are in torch order. */
export function ggufBytes(tensors: Record<string, TestTensor>, options: GgufOptions = {}) {
  const { version = 3, pairs = [], alignment = 32, info = {} } = options
  const names = Object.keys(tensors)
  const parts: Buffer[] = [
    Buffer.from('GGUF'),
    u32(version),
    u64(options.tensorCount ?? names.length),
    u64(options.pairCount ?? pairs.length),
  ]
  for (const bytes of pairs) parts.push(bytes)
  let offset = 0
  for (const name of names) {
    const { shape, type = 1 } = tensors[name]
    const change = info[name] ?? {}
    const dims = change.dims ?? [...shape].reverse()
    parts.push(
      text(name),
      u32(dims.length),
      ...dims.map(u64),
      u32(change.type ?? Number(type)),
      u64(change.offset ?? offset),
    )
    const [, elements, bytes] = GGML_BLOCKS[Number(type)]
    offset += Math.ceil(((count(shape) / elements) * bytes) / alignment) * alignment
  }
  const head = Buffer.concat(parts)
  const padding = Buffer.alloc((alignment - (head.length % alignment)) % alignment)
  return { head: Buffer.concat([head, padding]), dataBytes: offset }
}

export function writeGguf(path: string, tensors: Record<string, TestTensor>, options?: GgufOptions): string {
  const { head, dataBytes } = ggufBytes(tensors, options)
  return writeSparse(path, head, dataBytes)
}

const prepared = new WeakSet<Test>()
let files = 0
/** A new path in the test's temporary directory. */
export function freshPath(test: Test, extension: string): string {
  // testdir() empties the directory every time.
  if (!prepared.has(test)) test.testdir({})
  prepared.add(test)
  return join(test.testdirName, `${files++}${extension}`)
}

/** Checks that `promise` rejects with a DiffusionError of this code and a matching message. */
export async function rejects(
  test: Test,
  promise: Promise<unknown>,
  code: DiffusionErrorCode,
  message: RegExp,
  name: string,
) {
  try {
    await promise
    test.fail(`${name}: expected ${code}, but it was accepted`)
  } catch (error) {
    if (!(error instanceof DiffusionError)) throw error
    test.equal(error.code, code, `${name}: code (${error.message})`)
    test.match(error.message, message, `${name}: message`)
  }
}

/** xorshift32: the same numbers in every run. */
export function randomizer(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
}

/** Flips 1 to 4 random bytes of `valid`, `rounds` times; `open` must accept the file or throw a DiffusionError. */
export async function fuzz(
  test: Test,
  valid: Buffer,
  extra: number,
  rounds: number,
  path: string,
  open: (path: string) => Promise<unknown>,
) {
  const random = randomizer(0x9e3779b9)
  let accepted = 0
  for (let round = 0; round < rounds; round++) {
    const bytes = Buffer.from(valid)
    for (let i = random(4); i >= 0; i--) bytes[random(bytes.length)] = random(256)
    // Sometimes the file is truncated.
    const length = random(10) === 0 ? random(bytes.length) : bytes.length
    writeSparse(path, bytes.subarray(0, length), length === bytes.length ? extra : 0)
    try {
      await open(path)
      accepted++
    } catch (error) {
      if (!(error instanceof DiffusionError)) {
        test.fail(`round ${round}: ${String((error as Error).stack)}`)
        return
      }
    }
  }
  test.pass(`${rounds} damaged headers, ${accepted} still valid`)
}

export { t }
