/** safetensors files with their data, read and written for tests. */
import { readFileSync, writeFileSync } from 'node:fs'
import { safetensorsBytes } from './helpers.js'

export interface StoredTensor {
  dtype: string
  shape: number[]
  bytes: Buffer
}

/** The tensors of a safetensors file. */
export function readTensors(path: string): Map<string, StoredTensor> {
  const file = readFileSync(path)
  const start = 8 + Number(file.readBigUInt64LE(0))
  const header = JSON.parse(file.toString('utf8', 8, start)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >
  return new Map(
    Object.entries(header).flatMap(([name, { dtype, shape, data_offsets: at }]) =>
      name === '__metadata__'
        ? []
        : [[name, { dtype, shape, bytes: file.subarray(start + at[0], start + at[1]) }]],
    ),
  )
}

export function writeTensors(path: string, tensors: Iterable<[string, StoredTensor]>): string {
  let end = 0
  const header: Record<string, unknown> = {}
  const parts: Buffer[] = []
  for (const [name, { dtype, shape, bytes }] of tensors) {
    header[name] = { dtype, shape, data_offsets: [end, (end += bytes.length)] }
    parts.push(bytes)
  }
  writeFileSync(path, Buffer.concat([safetensorsBytes(header), ...parts]))
  return path
}
