import { basename, resolve } from 'node:path'
import { cancellable } from '../native-call.js'
import { native, type TensorEntry } from '../native.js'
import { kindByNames } from '../models/families/unsupported-models.js'
import { badFormat, unsupported } from '../models/formats/fail.js'
import type { StoredTensor, TensorFile } from '../models/formats/tensor-file.js'
import { openTensorFile, type ModelDescription } from '../models/index.js'
import { normalize } from '../prompt/embedding-names.js'
import { printable, quote } from '../quote.js'
import { TYPES } from './changes.js'
import { WIDTHS } from './family.js'
import type { AdapterReport } from './lora.js'

/** A textual inversion file and the name that prompts call it by. */
export interface EmbeddingSetting {
  path: string
  /** Default: the file's name without its extension and, if the file has one, the token in it. */
  token?: string
}

/** A word that was trained for a model (Gal et al. 2022, "An Image is Worth One Word"). */
export interface Embedding {
  names: string[]
  /** Number of its vectors. */
  count: number
  /** For each text encoder, [count, width]. */
  vectors: Float32Array[]
}

/** The `kind` of embeddings in reports. */
export const EMBEDDING = 'textual inversion'

const MAX_VECTORS = 1024
const MAX_TOKENS = 64

/** One embedding of a file: its tensors by text encoder. */
interface Stored {
  /** The token that the file has for it. */
  token?: string
  /** Of the only text encoder, or of each of two. */
  tensors: { first?: StoredTensor; second?: StoredTensor }
}

/**
 * Reads embeddings, which become words of the prompts.
 *
 * @throws {DiffusionError} MODEL_NOT_FOUND, MODEL_FORMAT, IO; UNSUPPORTED_MODEL: the file is no embedding, or belongs to
 *   a model of another family
 * @throws {RangeError} two embeddings have the same name
 */
export async function readEmbeddings(
  model: ModelDescription,
  settings: readonly EmbeddingSetting[],
  signal?: AbortSignal,
): Promise<{ embeddings: Embedding[]; reports: AdapterReport[] }> {
  const embeddings: Embedding[] = []
  const reports: AdapterReport[] = []
  const taken = new Map<string, string>()
  for (const { path, token } of settings) {
    const file = await openTensorFile(path)
    const all = findEmbeddings(path, file)
    if (token !== undefined && all.length > 1)
      throw badFormat(path, `expected one embedding for the token ${quote(token, 60)}, found ${all.length}`)
    const names: string[] = []
    const unplaced: string[] = []
    for (const stored of all) {
      const own = token !== undefined ? [token] : namesOf(path, stored, all.length === 1)
      for (const name of own) {
        const other = taken.get(normalize(name))
        if (other !== undefined)
          throw new RangeError(
            `Expected embeddings of different names but ${quote(other)} and ${quote(path)} are both ${quote(name, 60)}`,
          )
        taken.set(normalize(name), path)
      }
      const placed = place(path, model, stored)
      const vectors: Float32Array[] = []
      for (const tensor of placed.tensors) vectors.push(await readVectors(path, file, tensor, signal))
      embeddings.push({ names: own, count: countOf(placed.tensors[0]), vectors })
      names.push(...own)
      unplaced.push(...placed.unplaced.map(({ name }) => printable(name)))
    }
    const applied = all.reduce((sum, { tensors }) => sum + Object.keys(tensors).length, 0) - unplaced.length
    reports.push({ path, kind: EMBEDDING, scale: 1, ranks: [], applied, unplaced, tokens: names })
  }
  return { embeddings, reports }
}

function findEmbeddings(path: string, { tensors }: TensorFile): Stored[] {
  const named = (...names: string[]) => names.map((name) => tensors.get(name)).find(Boolean)
  // AUTOMATIC1111's files, in safetensors and in PyTorch's format.
  const only = named('emb_params', 'string_to_param.*')
  if (only) return [{ tensors: { first: only } }]
  // For two text encoders, as kohya's and as diffusers' scripts name them.
  const [first, second] = [named('clip_l', 'text_encoders_0'), named('clip_g', 'text_encoders_1')]
  if (first || second) return [{ tensors: { ...(first && { first }), ...(second && { second }) } }]
  // diffusers': vectors under the token itself.
  const words = [...tensors.values()]
  const plain = words.every(({ name, shape }) => {
    const layer = /\.(weight|bias|alpha|diff)$|lora|running_(mean|var)/.test(name)
    return !layer && (shape.length === 1 || shape.length === 2) && shape.at(-1)! >= 8
  })
  if (words.length === 0 || words.length > MAX_TOKENS || !plain) {
    const kind = kindByNames(tensors)
    throw unsupported(
      path,
      kind === undefined
        ? 'this is not an embedding: none of its tensors is named like one of textual inversion'
        : `this is not an embedding: it is ${kind}`,
    )
  }
  return words.map((tensor) => ({ token: tensor.name, tensors: { first: tensor } }))
}

/** Tensors of trainers that do not name the token. */
const NO_TOKEN = /^(tensor|weight|embedding|emb|\*)$/

function namesOf(path: string, { token }: Stored, alone: boolean): string[] {
  const stem = basename(path).replace(/\.[^.]+$/, '')
  const named = token !== undefined && !NO_TOKEN.test(token) && token.trim() !== '' ? [token] : []
  if (!alone) return named.length > 0 ? named : [token!]
  return [stem, ...named.filter((name) => normalize(name) !== normalize(stem))]
}

/** The tensor of each of the model's text encoders. */
function place(
  path: string,
  { textEncoders, architecture }: ModelDescription,
  { tensors: { first, second } }: Stored,
): { tensors: StoredTensor[]; unplaced: StoredTensor[] } {
  const widths = textEncoders.map(({ config }) => config.width)
  const refuse = (family: string | undefined) => {
    const is = family === undefined ? 'does not belong to this model' : `is for ${family}`
    const found = [first, second].flatMap((tensor) => (tensor ? [`[${tensor.shape}]`] : [])).join(' and ')
    const expected = widths.length > 0 ? `vectors of ${widths.join(' and ')} numbers` : 'no embedding'
    return unsupported(
      path,
      `this embedding ${is}, and the model is ${architecture}: expected ${expected}, found ${found}`,
    )
  }
  const fits = (tensor: StoredTensor | undefined, i: number) => tensor?.shape.at(-1) === widths[i]
  if (widths.length === 1) {
    if (first && !second && fits(first, 0)) return { tensors: [first], unplaced: [] }
    // The refiner of Stable Diffusion XL has the second of the base model's text encoders.
    if (second && fits(second, 0) && !fits(first, 0))
      return { tensors: [second], unplaced: first ? [first] : [] }
  } else if (widths.length === 2 && first && second && fits(first, 0) && fits(second, 1)) {
    if (countOf(first) === countOf(second)) return { tensors: [first, second], unplaced: [] }
    throw badFormat(
      path,
      `expected as many vectors for both text encoders, found [${first.shape}] and [${second.shape}]`,
    )
  }
  throw refuse(first && second ? 'Stable Diffusion XL' : WIDTHS.get((first ?? second)!.shape.at(-1)!))
}

/** A single vector can be stored without its first dimension. */
function countOf({ shape }: Pick<StoredTensor, 'shape'>): number {
  return shape.length === 1 ? 1 : shape[0]
}

async function readVectors(
  path: string,
  { identity }: TensorFile,
  { name, type, shape, offset, bytes, problem }: StoredTensor,
  signal: AbortSignal | undefined,
): Promise<Float32Array> {
  const known = TYPES.find((one) => one === type)
  if (!known || problem !== undefined) {
    const why = problem ?? `: expected one of the types ${TYPES.join(', ')}, found ${type}`
    throw unsupported(path, `tensor ${quote(name)}${problem === undefined ? '' : ' '}${why}`)
  }
  const count = countOf({ shape })
  if (shape.length > 2 || count < 1 || count > MAX_VECTORS)
    throw badFormat(path, `tensor ${quote(name)}: expected 1 to ${MAX_VECTORS} vectors, found [${shape}]`)
  const entry: TensorEntry = { name: 'vectors', type: known, shape, file: 0, offset, bytes }
  const source = { files: [resolve(path)], identities: [identity], tensors: [entry] }
  const rows = await cancellable(signal, (cancel) =>
    native().convertRows(source, 'f32', false, 0, count, cancel),
  )
  const values = new Float32Array(rows.bytes.buffer, rows.bytes.byteOffset, rows.bytes.byteLength / 4)
  if (!values.every(Number.isFinite))
    throw badFormat(path, `tensor ${quote(name)}: expected finite numbers, found others`)
  return values
}
