/** Helpers of the quantization's tests. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { native, type ModelSource, type GgmlTensorType } from '../../lib/native.js'
import { GGML_TYPES } from '../../lib/models/formats/gguf-types.js'

export const TYPES = Object.keys(GGML_TYPES) as GgmlTensorType[]
export const QUANTIZED = TYPES.filter((type) => GGML_TYPES[type].elements > 1)

/** A temporary folder for a test. */
export function folder(t: Test): { path(name: string): string; files(): string[] } {
  const root = mkdtempSync(join(tmpdir(), 'node-diffusion-quant-'))
  t.teardown(() => rmSync(root, { recursive: true, force: true }))
  return { path: (name) => join(root, name), files: () => readdirSync(root).sort() }
}

/** `count` numbers like weights: sums of three uniform numbers, the same each time. */
export function weights(count: number, seed = 1): Float32Array {
  let state = seed
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32 - 0.5
  }
  return Float32Array.from({ length: count }, () => 0.1 * (uniform() + uniform() + uniform()))
}

export const bytesOf = (x: Float32Array): Uint8Array => new Uint8Array(x.buffer, x.byteOffset, x.byteLength)
export const floatsOf = (x: Uint8Array): Float32Array => new Float32Array(x.slice().buffer)

/** Writes a file with one tensor, and returns its description for the native functions. */
export function oneTensor(
  path: string,
  type: GgmlTensorType,
  shape: number[],
  bytes: Uint8Array,
  channelsLast = false,
): ModelSource {
  writeFileSync(path, bytes)
  const entry = { name: 'weight', type, shape, file: 0, offset: 0, bytes: bytes.length, channelsLast }
  return { files: [path], tensors: [entry] }
}

/** The whole tensor as float32 in torch's order. */
export async function decoded(source: ModelSource): Promise<Float32Array> {
  const { shape } = source.tensors[0]
  const { bytes } = await native().convertRows(source, 'f32', false, 0, shape.length > 1 ? shape[0] : 1)
  return floatsOf(bytes)
}

/** Root mean square of a − b relative to b. */
export function relativeError(a: Float32Array, b: Float32Array): number {
  let [error, norm] = [0, 0]
  for (let i = 0; i < b.length; i++) {
    error += (a[i] - b[i]) ** 2
    norm += b[i] ** 2
  }
  return a.length === b.length ? Math.sqrt(error / norm) : NaN
}
