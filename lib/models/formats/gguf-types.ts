import type { GgmlTensorType } from '../../native.js'

/** A type of ggml: its number in GGUF files, and the number of elements and bytes of one block. */
export interface GgmlType {
  readonly number: number
  readonly elements: number
  readonly bytes: number
}

/** The types that the engine reads and writes. */
// prettier-ignore
export const GGML_TYPES: Readonly<Record<GgmlTensorType, GgmlType>> = {
  f32: { number: 0, elements: 1, bytes: 4 },
  f16: { number: 1, elements: 1, bytes: 2 },
  bf16: { number: 30, elements: 1, bytes: 2 },
  q8_0: { number: 8, elements: 32, bytes: 34 },
  q5_0: { number: 6, elements: 32, bytes: 22 },
  q5_1: { number: 7, elements: 32, bytes: 24 },
  q4_0: { number: 2, elements: 32, bytes: 18 },
  q4_1: { number: 3, elements: 32, bytes: 20 },
  q6_k: { number: 14, elements: 256, bytes: 210 },
  q5_k: { number: 13, elements: 256, bytes: 176 },
  q4_k: { number: 12, elements: 256, bytes: 144 },
  q3_k: { number: 11, elements: 256, bytes: 110 },
  q2_k: { number: 10, elements: 256, bytes: 84 },
}

/** Bytes of `count` elements, which must fill whole blocks. */
export function ggmlBytes(type: GgmlTensorType, count: number): number {
  const { elements, bytes } = GGML_TYPES[type]
  return (count / elements) * bytes
}

export function isGgmlType(type: string): type is GgmlTensorType {
  return Object.hasOwn(GGML_TYPES, type)
}
