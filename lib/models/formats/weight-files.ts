import { readdir } from 'node:fs/promises'
import { isAbsolute, join, win32 } from 'node:path'
import { quote, show } from '../../quote.js'
import type { SourceFile, Tensors } from '../component.js'
import { ConfigReader } from '../families/config-reader.js'
import { badFormat } from './fail.js'
import { readPickle } from './pickle/index.js'
import { readSafetensors } from './safetensors.js'
import { ioError, MAX_TENSORS } from './tensor-file.js'
import { isFile } from '../tokenizer-files.js'

/** Names that diffusers and transformers give weight files, without extensions. */
const STEMS = ['model', 'diffusion_pytorch_model', 'pytorch_model']
/** In order of preference. A pickle is read only where nothing else is there. */
const EXTENSIONS = ['.safetensors', '.bin'] as const
/** In order of preference: as in diffusers, files without a variant come first. Others come last. */
const VARIANTS = ['', 'fp16', 'bf16', 'fp32']
const MAX_SHARDS = 1000
/** Bytes of an index. */
const MAX_INDEX = 16 << 20

export interface ComponentWeights {
  files: SourceFile[]
  tensors: Tensors
}

/** A file with the weights of a component, or the index of several. */
interface Candidate {
  name: string
  stem: string
  extension: (typeof EXTENSIONS)[number]
  variant: string
  index: boolean
}

/** @param variant the variant to prefer, as in the name `diffusion_pytorch_model.fp16.safetensors` */
export async function readWeights(folder: string, variant?: string): Promise<ComponentWeights> {
  let names: string[]
  try {
    names = await readdir(folder)
  } catch (error) {
    throw ioError(folder, error)
  }
  const best = chooseWeights(names, variant)
  if (!best) throw noWeights(folder, names)
  const path = join(folder, best.name)
  if (best.index) return readShards(folder, best)
  const file = await readFile(path, best.extension)
  return { files: [file], tensors: file.tensors }
}

function readFile(path: string, extension: Candidate['extension'], fileIndex = 0) {
  return extension === '.bin' ? readPickle(path, fileIndex) : readSafetensors(path, fileIndex)
}

/** The weights to read among the names of a component's files. */
export function chooseWeights(names: readonly string[], variant?: string): Candidate | undefined {
  const rank = ({ extension, variant: found, index }: Candidate) => {
    const known = VARIANTS.indexOf(found)
    const place = found === variant ? 0 : 1 + (known < 0 ? VARIANTS.length : known)
    return (EXTENSIONS.indexOf(extension) * 16 + place) * 2 + Number(index)
  }
  return names
    .flatMap((name) => parseName(name) ?? [])
    .sort((a, b) => rank(a) - rank(b) || STEMS.indexOf(a.stem) - STEMS.indexOf(b.stem))[0]
}

/**
 * `model.safetensors`, `model.fp16.safetensors`, `model.safetensors.index.json`, `model.safetensors.index.fp16.json`,
 * and `model.safetensors.fp16.index.json` as older versions of diffusers wrote it.
 */
function parseName(name: string): Candidate | undefined {
  const match = /^([a-z_]+)(?:\.([\w-]+))?(\.safetensors|\.bin)(.*)$/.exec(name)
  if (!match) return undefined
  const [, stem, variant = '', extension, rest] = match as unknown as [
    string,
    string,
    string?,
    string?,
    string?,
  ]
  if (!STEMS.includes(stem) || /-\d{5}-of-\d{5}$/.test(variant)) return undefined
  const index = /^(?:\.([\w-]+))?\.index(?:\.([\w-]+))?\.json$/.exec(rest!)
  if (rest !== '' && !index) return undefined
  return {
    name,
    stem,
    extension: extension as Candidate['extension'],
    variant: index?.[1] ?? index?.[2] ?? variant,
    index: index !== null,
  }
}

function noWeights(folder: string, names: string[]): Error {
  const other = names.find((name) => /\.(safetensors|bin|ckpt|pth?|gguf|msgpack|h5|onnx)$/.test(name))
  const looked = `looked for ${STEMS.slice(0, 2)
    .map((stem) => `${stem}.safetensors`)
    .join(', ')}, pytorch_model.bin, their variants and .index.json`
  return badFormat(folder, `no weights found${other ? `, only ${quote(other)}` : ''}: ${looked}`)
}

async function readShards(
  folder: string,
  { name: indexName, extension }: Candidate,
): Promise<ComponentWeights> {
  const indexPath = join(folder, indexName)
  const index = await ConfigReader.read(indexPath, { limit: MAX_INDEX, unique: true })
  const map = index.child('weight_map')
  const shardOf = new Map<string, string>()
  for (const name of map.keys()) {
    if (shardOf.size === MAX_TENSORS)
      throw badFormat(indexPath, `expected at most ${MAX_TENSORS} tensors, found more`)
    shardOf.set(name, checkShardName(indexPath, map.get(name), extension))
  }
  const shards = [...new Set(shardOf.values())].sort()
  if (shards.length > MAX_SHARDS)
    throw badFormat(indexPath, `expected at most ${MAX_SHARDS} files, found ${shards.length}`)

  const tensors: Tensors = new Map()
  const files: SourceFile[] = []
  for (const [i, shard] of shards.entries()) {
    const path = join(folder, shard)
    if (!(await isFile(path)))
      throw badFormat(indexPath, `expected the file ${quote(shard)} that it names, found none`)
    const file = await readFile(path, extension, i)
    files.push({ path, identity: file.identity })
    for (const [name, tensor] of file.tensors) if (shardOf.get(name) === shard) tensors.set(name, tensor)
  }
  for (const [name, shard] of shardOf) {
    if (!tensors.has(name))
      throw badFormat(indexPath, `expected tensor ${quote(name)} in ${quote(shard)}, which does not hold it`)
  }
  return { files, tensors }
}

/** Checks that a shard is in the component's folder: an index must not open other files. */
function checkShardName(indexPath: string, name: unknown, extension: Candidate['extension']): string {
  const inside =
    typeof name === 'string' &&
    name.endsWith(extension) &&
    !name.includes('\0') &&
    !isAbsolute(name) &&
    !win32.isAbsolute(name) &&
    !/^[a-z]:/i.test(name) &&
    !name.split(/[\\/]/).includes('..')
  if (!inside)
    throw badFormat(
      indexPath,
      `expected the name of a ${extension} file inside the folder, found ${show(name)}`,
    )
  return name
}
