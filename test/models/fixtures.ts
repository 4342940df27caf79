/** The committed models of tools/fixtures/models.py and the tensors that diffusers computed with them. */
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { packageRoot } from '../../lib/package-root.js'

export const fixtures = join(packageRoot(), 'test', 'fixtures', 'models')

export type Component = 'unet' | 'vae' | 'text_encoder'

/** One computation; its tensors are `${name}/…` of golden.safetensors. */
export interface Case {
  model: string
  component: Component
  kind: 'predict' | 'encode' | 'decode' | 'quantize' | 'lookup' | 'encode_text'
  name: string
  skip?: number
}

export interface GoldenTensor {
  data: Float32Array | Int32Array
  shape: number[]
}

export const cases: Case[] = JSON.parse(readFileSync(join(fixtures, 'cases.json'), 'utf8'))

let golden: Map<string, GoldenTensor> | undefined

/** The tensor of a case: 'latents', 'context', 'timesteps', 'pooled', 'image', 'tokens', 'output', … */
export function tensor(of: Case, key: string): GoldenTensor {
  golden ??= readTensors(join(fixtures, 'golden.safetensors'))
  const found = golden.get(`${of.name}/${key}`)
  if (!found) throw new Error(`no ${key} for ${of.name}`)
  return found
}

export function has(of: Case, key: string): boolean {
  golden ??= readTensors(join(fixtures, 'golden.safetensors'))
  return golden.has(`${of.name}/${key}`)
}

export function floats(of: Case, key: string): { data: Float32Array; shape: number[] } {
  const found = tensor(of, key)
  if (!(found.data instanceof Float32Array)) throw new Error(`${key} of ${of.name} holds integers`)
  return { data: found.data, shape: found.shape }
}

export function integers(of: Case, key: string): { data: Int32Array; shape: number[] } {
  const found = tensor(of, key)
  if (!(found.data instanceof Int32Array)) throw new Error(`${key} of ${of.name} holds floats`)
  return { data: found.data, shape: found.shape }
}

/** All tensors of a safetensors file of float32 and int32. It does not use the reader that is tested. */
export function readTensors(path: string): Map<string, GoldenTensor> {
  const bytes = readFileSync(path)
  const start = 8 + Number(bytes.readBigUInt64LE(0))
  const header = JSON.parse(bytes.toString('utf8', 8, start))
  const tensors = new Map<string, GoldenTensor>()
  for (const [name, entry] of Object.entries<any>(header)) {
    if (name === '__metadata__') continue
    const [begin, end] = entry.data_offsets
    const copy = bytes.buffer.slice(bytes.byteOffset + start + begin, bytes.byteOffset + start + end)
    if (entry.dtype !== 'F32' && entry.dtype !== 'I32') throw new Error(`${path}: ${name} is ${entry.dtype}`)
    tensors.set(name, {
      data: entry.dtype === 'F32' ? new Float32Array(copy) : new Int32Array(copy),
      shape: entry.shape,
    })
  }
  return tensors
}

/** The same model in several file formats, unpacked into a temporary folder that the caller removes. */
export function unpackForms(): { root: string; path(name: string): string; remove(): void } {
  const root = mkdtempSync(join(tmpdir(), 'node-diffusion-forms-'))
  const unpack = (from: string, to: string) => {
    mkdirSync(to, { recursive: true })
    for (const name of readdirSync(from)) {
      const source = join(from, name)
      if (statSync(source).isDirectory()) unpack(source, join(to, name))
      else writeFileSync(join(to, name.replace(/\.gz$/, '')), gunzipSync(readFileSync(source)))
    }
  }
  unpack(join(fixtures, 'forms'), root)
  return {
    root,
    path: (name) => join(root, name),
    remove: () => rmSync(root, { recursive: true, force: true }),
  }
}

/** A copy of a model's folder that a test can change; it goes with the test. */
export function copyModel(t: { teardown(remove: () => void): void }, model: string): string {
  const to = mkdtempSync(join(tmpdir(), 'node-diffusion-model-'))
  t.teardown(() => rmSync(to, { recursive: true, force: true }))
  cpSync(join(fixtures, model), to, { recursive: true })
  return to
}
