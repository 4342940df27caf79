import { checkString } from '../check.js'
import { quote } from '../quote.js'
import { realpath, stat } from 'node:fs/promises'
import { sep } from 'node:path'
import { storedComponents, type ModelDescription } from '../models/model-description.js'

/** Names of other formats, under which no program would read a GGUF file. */
const OTHER_FORMATS = /[.](safetensors|sft|ckpt|pt|pth|bin|onnx|json|png|jpe?g|webp)$/i

/** @throws {TypeError | RangeError} `output` is no path */
export function checkOutputPath(output: unknown): void {
  if (checkString(output, 'output') === '')
    throw new RangeError('Expected a path for output but received an empty string')
}

/**
 * Rejects an output that would replace a file of the input model: the file itself, a link to it, or a file in the
 * model's folder. New files and GGUF files are allowed in the folder, as a diffusers model has no GGUF files. Names of
 * other formats are rejected too.
 *
 * @throws {RangeError} if the output would replace such a file, or has such a name
 */
export async function checkOutput(model: ModelDescription, output: string): Promise<void> {
  await checkReplaced(model, output)
  if (!OTHER_FORMATS.test(output)) return
  throw new RangeError(`Expected a name that ends in .gguf for output but received ${quote(output)}`)
}

async function checkReplaced(model: ModelDescription, output: string): Promise<void> {
  const existing = await stat(output, { bigint: true }).catch(() => undefined)
  if (!existing?.isFile()) return
  for (const file of new Set(storedComponents(model).flatMap(({ source }) => source.files))) {
    const source = await stat(file, { bigint: true }).catch(() => undefined)
    if (source?.ino === existing.ino && source.dev === existing.dev) throw replaces(model, output)
  }
  if (model.format !== 'diffusers') return
  const [folder, path] = await Promise.all([realpath(model.path), realpath(output)])
  if (path.startsWith(folder + sep) && !path.endsWith('.gguf')) throw replaces(model, output)
}

function replaces({ path }: ModelDescription, output: string): RangeError {
  return new RangeError(
    `Expected an output that is not a file of the model ${quote(path)} but received ${quote(output)}`,
  )
}
