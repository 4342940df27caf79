import { readdir } from 'node:fs/promises'
import { basename, extname, join, sep } from 'node:path'
import { DiffusionError } from '../errors.js'
import type { NamedLora } from '../prompt/lora-syntax.js'
import { printable, quote } from '../quote.js'
import { closest } from '../spelling.js'
import type { LoraSetting } from './lora.js'

/** Extensions of files that are looked for. */
const EXTENSION = /\.(safetensors|sft|pt|ckpt|bin|gguf)$/i

/**
 * The files of LoRAs in a folder and those in it, by their names without extension or by their paths from there.
 *
 * @throws {DiffusionError} MODEL_NOT_FOUND: there is no such file, or no such folder
 * @throws {RangeError} several files have the name
 */
export async function findLoras(folder: string, loras: readonly NamedLora[]): Promise<LoraSetting[]> {
  if (loras.length === 0) return []
  const listed = await readdir(folder, { recursive: true }).catch((cause: unknown) => {
    throw new DiffusionError('MODEL_NOT_FOUND', `${folder}: cannot be read as loraFolder`, { cause })
  })
  const files = listed.filter((path) => EXTENSION.test(path)).sort()
  const stem = (path: string) => path.slice(0, -extname(path).length).split(sep).join('/')
  return loras.map(({ name, ...scales }) => {
    const called = (wanted: string, spelling: (text: string) => string) =>
      [stem, (path: string) => basename(stem(path))]
        .map((nameOf) => files.filter((path) => spelling(nameOf(path)) === wanted))
        .find(({ length }) => length > 0)
    const found = called(name, (text) => text) ?? called(name.toLowerCase(), (text) => text.toLowerCase())
    if (!found) {
      const near = closest(name, files.map((path) => basename(stem(path)))) // prettier-ignore
      const hint = near === undefined ? '' : `, did you mean ${printable(near)}?`
      throw new DiffusionError('MODEL_NOT_FOUND', `${folder}: there is no LoRA ${quote(name, 60)}${hint}`)
    }
    if (found.length > 1)
      throw new RangeError(
        `Expected one LoRA ${quote(name, 60)} in ${quote(folder)} but there are ${found.slice(0, 3).map(printable).join(', ')}`,
      )
    return { path: join(folder, found[0]), ...scales }
  })
}
