import { readdir } from 'node:fs/promises'
import { isAbsolute, join, win32 } from 'node:path'
import { quote, show } from '../../quote.js'
import type { Tensors } from '../component.js'
import { ConfigReader, readText } from '../families/config-reader.js'
import { badFormat } from './fail.js'
import { readSafetensors, repeatedKey } from './safetensors.js'
import { ioError } from './tensor-file.js'
import { isFile } from '../tokenizer-files.js'

/**
 * Names of weight files in a component's folder, in order of preference: as in diffusers, files without a variant come
 * first. transformers uses the first stem, diffusers the second.
 */
const STEMS = ['model', 'diffusion_pytorch_model']
const VARIANTS = ['', '.fp16', '.bf16', '.fp32']
const MAX_SHARDS = 1000

export interface ComponentWeights {
  files: string[]
  tensors: Tensors
}

export async function readWeights(folder: string): Promise<ComponentWeights> {
  let names: string[]
  try {
    names = await readdir(folder)
  } catch (error) {
    throw ioError(folder, error)
  }
  for (const variant of VARIANTS) {
    for (const stem of STEMS) {
      const single = `${stem}${variant}.safetensors`
      if (names.includes(single)) {
        const path = join(folder, single)
        return { files: [path], tensors: (await readSafetensors(path)).tensors }
      }
      const index = `${stem}.safetensors.index${variant}.json`
      if (names.includes(index)) return readShards(folder, index)
    }
  }
  throw noWeights(folder, names)
}

function noWeights(folder: string, names: string[]): Error {
  const pickled = names.find((name) => /\.(bin|ckpt|pth?|msgpack|h5)$/.test(name))
  const looked = `looked for ${STEMS.map((stem) => `${stem}.safetensors`).join(', ')}, their .fp16 variants and .index.json`
  if (!pickled) return badFormat(folder, `no weights found: ${looked}`)
  return badFormat(
    folder,
    `no weights in safetensors found, only ${quote(pickled)}, which can contain code and is not read (${looked}). ` +
      'Convert the model once: python -c "from diffusers import DiffusionPipeline as P; ' +
      "P.from_pretrained('MODEL_FOLDER').save_pretrained('NEW_FOLDER', safe_serialization=True)\"",
  )
}

async function readShards(folder: string, indexName: string): Promise<ComponentWeights> {
  const indexPath = join(folder, indexName)
  const text = await readText(indexPath, 64 << 20)
  const map = ConfigReader.parse(indexPath, text).child('weight_map')
  const repeated = repeatedKey(text)
  if (repeated !== undefined) throw badFormat(indexPath, `tensor ${quote(repeated)} is given twice`)

  const shardOf = new Map<string, string>()
  for (const name of map.keys()) shardOf.set(name, checkShardName(indexPath, map.get(name)))
  const shards = [...new Set(shardOf.values())].sort()
  if (shards.length > MAX_SHARDS)
    throw badFormat(indexPath, `expected at most ${MAX_SHARDS} files, found ${shards.length}`)

  const tensors: Tensors = new Map()
  const files = shards.map((shard) => join(folder, shard))
  for (const [i, path] of files.entries()) {
    if (!(await isFile(path)))
      throw badFormat(indexPath, `expected the file ${quote(shards[i])} that it names, found none`)
    for (const [name, tensor] of (await readSafetensors(path, i)).tensors) {
      if (shardOf.get(name) === shards[i]) tensors.set(name, tensor)
    }
  }
  for (const [name, shard] of shardOf) {
    if (!tensors.has(name))
      throw badFormat(indexPath, `expected tensor ${quote(name)} in ${quote(shard)}, which does not hold it`)
  }
  return { files, tensors }
}

/** Checks that a shard is in the component's folder: an index must not open other files. */
function checkShardName(indexPath: string, name: unknown): string {
  const inside =
    typeof name === 'string' &&
    name.endsWith('.safetensors') &&
    !name.includes('\0') &&
    !isAbsolute(name) &&
    !win32.isAbsolute(name) &&
    !/^[a-z]:/i.test(name) &&
    !name.split(/[\\/]/).includes('..')
  if (!inside)
    throw badFormat(
      indexPath,
      `expected the name of a .safetensors file inside the folder, found ${show(name)}`,
    )
  return name
}
