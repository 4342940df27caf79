import { stat } from 'node:fs/promises'
import { basename, extname, resolve } from 'node:path'
import { checkObject, checkString } from '../check.js'
import { quote, received } from '../quote.js'
import { insideCache } from './cache-folder.js'
import { describeFolder } from './diffusers-folder.js'
import { badFormat, unsupported } from './formats/fail.js'
import { readGguf } from './formats/gguf.js'
import { storedComponents, type ModelDescription } from './model-description.js'
import { notFound } from './not-found.js'
import { notTensors } from './formats/other-files.js'
import { readSafetensors } from './formats/safetensors.js'
import { describeSingleFile } from './single-file.js'
import { isPickle, readPickle } from './formats/pickle/index.js'
import { ioError, readExactly, withFile, type TensorFile } from './formats/tensor-file.js'

export type * from './model-description.js'
export { componentSummary, type ComponentSummary, type TypeSummary } from './summary.js'
export { CHANNELS_LAST_KEY } from './formats/gguf.js'
export { snapshotFolder } from './cache-folder.js'
export { chooseWeights } from './formats/weight-files.js'
export { CONFIG_KEY, writeStoredConfig } from './families/stored-config.js'

/** No system has longer paths. */
const MAX_PATH = 32_767

/** Options of openModel(). */
export interface OpenOptions {
  /** Of a diffusers folder: which of several weights to prefer, as in `diffusion_pytorch_model.fp16.safetensors`. */
  variant?: string
}

/**
 * Reads the headers and configurations of a model's files, but not the weights.
 *
 * @param path a .safetensors, .gguf, .ckpt, .pt, .pth or .bin file, a diffusers folder, or a folder of one component
 * @throws {TypeError} `path` is not a string
 * @throws {DiffusionError} MODEL_NOT_FOUND; MODEL_FORMAT: damaged or incomplete files; MODEL_SHAPE: a tensor of another
 *   shape than its configuration says; UNSUPPORTED_MODEL, IO, NATIVE_UNAVAILABLE
 */
export async function openModel(path: string, options: OpenOptions = {}): Promise<ModelDescription> {
  const { variant } = checkObject(options, 'options', ['variant'])
  if (variant !== undefined) checkString(variant, 'variant')
  if (typeof path !== 'string' || path === '' || path.length > MAX_PATH || path.includes('\0')) {
    throw new TypeError(`Expected the path of a model but received ${received(path)}`)
  }
  const model = (await isFolderOrThrow(path))
    ? await describeFolder(await insideCache(path), variant as string | undefined)
    : await describeFile(path)
  // Absolute paths, because weights may be loaded after the working directory has changed.
  for (const { source } of storedComponents(model)) source.files = source.files.map((file) => resolve(file))
  return model
}

/** @throws {DiffusionError} MODEL_FORMAT: it is a folder, and no component has weights of this variant */
export function requireVariant(model: ModelDescription, variant: string | undefined): void {
  if (variant === undefined || model.format !== 'diffusers') return
  const parts = [model.unet, model.vae, ...model.textEncoders]
  const names = parts.flatMap((part) => part?.source.files.map((file) => basename(file)) ?? [])
  if (names.some((name) => name.includes(`.${variant}.`) || name.includes(`.${variant}-`))) return
  throw badFormat(model.path, `expected weights of the variant ${quote(variant, 60)}, found none`)
}

/**
 * Reads the header of a tensor file of any format, such as an adapter's.
 *
 * @throws {DiffusionError} MODEL_NOT_FOUND, MODEL_FORMAT, UNSUPPORTED_MODEL, IO
 */
export async function openTensorFile(path: string): Promise<TensorFile> {
  if (await isFolderOrThrow(path)) throw badFormat(path, 'expected a file, found a folder')
  return readTensorFile(path)
}

async function describeFile(path: string): Promise<ModelDescription> {
  return describeSingleFile(await readTensorFile(path))
}

async function readTensorFile(path: string): Promise<TensorFile> {
  switch (await detectFormat(path)) {
    case 'gguf':
      return readGguf(path)
    case 'pickle':
      return readPickle(path)
    default:
      return readSafetensors(path)
  }
}

async function isFolderOrThrow(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw code === 'ENOENT' || code === 'ENOTDIR' ? await notFound(path) : ioError(path, error)
  }
}

/** The format by the first bytes of the file, or by its extension if they do not tell. */
async function detectFormat(path: string): Promise<TensorFile['format']> {
  const head = await withFile(path, (file, size) => readExactly(path, file, 0, Math.min(size, 64)))
  if (head.length === 0)
    throw badFormat(path, 'expected a safetensors, GGUF or PyTorch file, found an empty one')
  const text = head.toString('latin1')
  const extension = extname(path).toLowerCase()
  // Older ggml formats begin with the letters in another order.
  if (text.startsWith('GGUF')) return 'gguf'
  if (/^(lmgg|fmgg|tjgg|algg)/.test(text)) throw unsupported(path, 'this is a GGML file from before GGUF')
  const other = notTensors(path, head)
  if (other) throw other
  // A safetensors file begins with the length of its header and a brace.
  if (text[8] === '{' && !text.startsWith('PK\u0003\u0004')) return 'safetensors'
  if (isPickle(head)) return 'pickle'
  if (extension === '.safetensors') return 'safetensors'
  if (extension === '.gguf') return 'gguf'
  throw badFormat(
    path,
    `expected a safetensors, GGUF or PyTorch file, found one that begins with ${quote(text.slice(0, 8))}`,
  )
}
