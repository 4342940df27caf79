import { DiffusionError } from '../errors.js'
import type { ModelSource, RequiredTensor, TensorEntry, TensorType } from '../native.js'
import { quote } from '../quote.js'
import { badFormat, unsupported } from './formats/fail.js'
import type { StoredTensor, TensorFile } from './formats/tensor-file.js'

const TENSOR_TYPES: readonly TensorType[] =
  // prettier-ignore
  ['f32', 'f16', 'bf16', 'q8_0', 'q5_0', 'q5_1', 'q4_0', 'q4_1', 'q6_k', 'q5_k', 'q4_k', 'q3_k', 'q2_k', 'f64', 'f8_e4m3', 'f8_e5m2']

/** A file that tensors are in. */
export type SourceFile = Pick<TensorFile, 'path' | 'identity'>

/** Stored tensors of one component by their canonical names. */
export type Tensors = Map<string, StoredTensor>

/** Renames tensors and refuses two of the same canonical name. `rename` returns undefined for a tensor to drop. */
export function renameTensors(
  paths: readonly string[],
  tensors: Tensors,
  rename: (name: string) => string | undefined,
): Tensors {
  const renamed: Tensors = new Map()
  for (const [name, tensor] of tensors) {
    const canonical = rename(name)
    if (canonical !== undefined) addTensor(paths, renamed, canonical, tensor)
  }
  return renamed
}

export function addTensor(
  paths: readonly string[],
  tensors: Tensors,
  canonical: string,
  tensor: StoredTensor,
): void {
  const other = tensors.get(canonical)
  if (other) {
    const names = `tensors ${quote(other.name)} and ${quote(tensor.name)}`
    throw badFormat(paths[tensor.file], `${names} are both ${canonical}: expected one of them`)
  }
  tensors.set(canonical, tensor)
}

/**
 * The source for the engine: exactly the required tensors, with the shapes that are expected. `strict` refuses all
 * others, for configurations that were derived from the tensors: then an unknown tensor means an unknown part of the
 * model. `where` is the file or folder that messages name for a missing tensor.
 */
export function matchTensors(
  where: string,
  files: readonly SourceFile[],
  tensors: Tensors,
  required: readonly RequiredTensor[],
  strict: boolean,
): ModelSource {
  const entries: TensorEntry[] = []
  for (const { name, shape } of required) {
    const tensor = tensors.get(name)
    if (!tensor) throw badFormat(where, `tensor ${name} of shape [${shape}] is missing`)
    entries.push(entry(files[tensor.file].path, name, shape, tensor))
  }
  if (strict) {
    const known = new Set(required.map(({ name }) => name))
    for (const [name, tensor] of tensors) {
      if (known.has(name)) continue
      throw unsupported(
        files[tensor.file].path,
        `tensor ${quote(tensor.name)} belongs to a part that node-diffusion does not support`,
      )
    }
  }
  return {
    files: files.map(({ path }) => path),
    identities: files.map(({ identity }) => identity),
    tensors: entries,
  }
}

function entry(path: string, name: string, shape: number[], tensor: StoredTensor): TensorEntry {
  const stored = tensor.name === name ? name : `${name} (stored as ${quote(tensor.name)})`
  // Trailing ones do not count: a 1×1 convolution is a linear layer.
  if (trimOnes(tensor.shape) !== trimOnes(shape)) {
    throw new DiffusionError(
      'MODEL_SHAPE',
      `${path}: tensor ${stored}: expected shape [${shape}], found [${tensor.shape}]`,
    )
  }
  if (tensor.problem !== undefined) throw unsupported(path, `tensor ${stored} ${tensor.problem}`)
  const type = TENSOR_TYPES.find((t) => t === tensor.type)
  if (!type) {
    throw unsupported(
      path,
      `tensor ${stored}: expected one of the types ${TENSOR_TYPES.join(', ')}, found ${tensor.type}`,
    )
  }
  const { file, offset, bytes, scale } = tensor
  // Both orders of a 1×1 kernel are the same.
  const channelsLast = tensor.channelsLast === true && shape.length === 4 && shape[2] * shape[3] > 1
  return {
    name,
    type,
    shape,
    file,
    offset,
    bytes,
    ...(channelsLast && { channelsLast }),
    ...(scale !== undefined && { scale }),
  }
}

function trimOnes(shape: readonly number[]): string {
  let length = shape.length
  while (length > 1 && shape[length - 1] === 1) length--
  return shape.slice(0, length).join()
}
