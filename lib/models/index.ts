import { stat } from 'node:fs/promises'
import { extname, resolve } from 'node:path'
import { quote, received } from '../quote.js'
import { describeFolder } from './diffusers-folder.js'
import { badFormat, unsupported } from './formats/fail.js'
import { readGguf } from './formats/gguf.js'
import type { ModelDescription } from './model-description.js'
import { notFound } from './not-found.js'
import { readSafetensors } from './formats/safetensors.js'
import { describeSingleFile } from './single-file.js'
import { ioError, readExactly, withFile } from './formats/tensor-file.js'

export type * from './model-description.js'
export { componentSummary, type ComponentSummary, type TypeSummary } from './summary.js'
export { CHANNELS_LAST_KEY } from './formats/gguf.js'
export { CONFIG_KEY, writeStoredConfig } from './families/stored-config.js'

/**
 * Reads the headers and configurations of a model's files, but not the weights.
 *
 * @param path a .safetensors or .gguf file, a diffusers folder, or a folder of one component
 * @throws {TypeError} `path` is not a string
 * @throws {DiffusionError} MODEL_NOT_FOUND; MODEL_FORMAT: damaged or incomplete files; MODEL_SHAPE: a tensor of another
 *   shape than its configuration says; UNSUPPORTED_MODEL, IO, NATIVE_UNAVAILABLE
 */
export async function openModel(path: string): Promise<ModelDescription> {
  if (typeof path !== 'string' || path === '' || path.includes('\0')) {
    throw new TypeError(`Expected the path of a model but received ${received(path)}`)
  }
  const model = (await isFolderOrThrow(path)) ? await describeFolder(path) : await describeFile(path)
  // Absolute paths, because weights may be loaded after the working directory has changed.
  for (const part of [model.unet, model.vae, ...model.textEncoders, model.tinyVae]) {
    if (part) part.source.files = part.source.files.map((file) => resolve(file))
  }
  return model
}

async function describeFile(path: string): Promise<ModelDescription> {
  const format = await detectFormat(path)
  return describeSingleFile(format === 'gguf' ? await readGguf(path) : await readSafetensors(path))
}

async function isFolderOrThrow(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw code === 'ENOENT' || code === 'ENOTDIR' ? await notFound(path) : ioError(path, error)
  }
}

const PICKLE_EXTENSIONS = ['.ckpt', '.pt', '.pth', '.bin', '.pkl']

/** The format by the first bytes of the file, or by its extension if they do not tell. */
async function detectFormat(path: string): Promise<'safetensors' | 'gguf'> {
  const head = await withFile(path, (file, size) => readExactly(path, file, 0, Math.min(size, 64)))
  if (head.length === 0) throw badFormat(path, 'expected a safetensors or GGUF file, found an empty one')
  const text = head.toString('latin1')
  const extension = extname(path).toLowerCase()
  // Older ggml formats begin with the letters in another order.
  if (text.startsWith('GGUF')) return 'gguf'
  if (/^(lmgg|fmgg|tjgg|algg)/.test(text)) throw unsupported(path, 'this is a GGML file from before GGUF')
  // A safetensors file begins with the length of its header and a brace.
  if (text[8] === '{' && !text.startsWith('PK\u0003\u0004')) return 'safetensors'
  if (text.startsWith('PK\u0003\u0004') || /^\u0080[\u0002-\u0005]/.test(text)) throw pickled(path)
  if (text.startsWith('version https://git-lfs')) {
    throw badFormat(
      path,
      'this is a Git LFS pointer and not the model: run git lfs pull, or download the file itself',
    )
  }
  if (/^\s*<(!doctype|html|\?xml)/i.test(text))
    throw badFormat(path, 'this is a web page and not a model: the download went wrong')
  if (extension === '.safetensors') return 'safetensors'
  if (extension === '.gguf') return 'gguf'
  if (PICKLE_EXTENSIONS.includes(extension)) throw pickled(path)
  throw badFormat(
    path,
    `expected a safetensors or GGUF file, found one that begins with ${quote(text.slice(0, 8))}`,
  )
}

function pickled(path: string) {
  const convert =
    "import sys, torch, safetensors.torch as s; m = torch.load(sys.argv[1], map_location='cpu', weights_only=True); " +
    "m = m.get('state_dict', m); " +
    "s.save_file({k: v.clone().contiguous() for k, v in m.items() if hasattr(v, 'shape')}, sys.argv[2])"
  return unsupported(
    path,
    'this is a PyTorch pickle, which can contain code and is not read. Convert it once to safetensors: ' +
      `python -c "${convert}" model.ckpt model.safetensors`,
  )
}
