import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { ConfigReader, readText } from './families/config-reader.js'
import { badFormat } from './formats/fail.js'
import type { TokenizerDescription } from './model-description.js'

const MAX_VOCABULARY = 64 << 20
/** transformers writes 1e30 if the length is unknown. */
const MAX_LENGTH = 65_536

/** The padding tokens: CLIP's end token, and token 0 in OpenCLIP (Stable Diffusion 2). */
export const CLIP_PAD = '<|endoftext|>'
export const OPEN_CLIP_PAD = '!'

/** Reads a tokenizer folder of transformers. `positions` is the number of positions of the text encoder. */
export async function readTokenizer(folder: string, positions: number): Promise<TokenizerDescription> {
  const paths = { vocab: 'vocab.json', merges: 'merges.txt', tokenizerJson: 'tokenizer.json' }
  const texts: Partial<Record<keyof typeof paths, string>> = {}
  for (const [key, file] of Object.entries(paths) as [keyof typeof paths, string][]) {
    const path = join(folder, file)
    if (await isFile(path)) texts[key] = await readText(path, MAX_VOCABULARY)
  }
  if (texts.tokenizerJson === undefined && (texts.vocab === undefined || texts.merges === undefined)) {
    throw badFormat(folder, 'expected vocab.json and merges.txt, or tokenizer.json, found neither')
  }

  const config = await readOptional(join(folder, 'tokenizer_config.json'))
  const special = await readOptional(join(folder, 'special_tokens_map.json'))
  return { ...texts, maxLength: readMaxLength(config, positions), padToken: readPadToken(config, special) }
}

function readMaxLength(config: ConfigReader | undefined, positions: number): number {
  if (!config?.has('model_max_length')) return positions
  const length = config.get('model_max_length')
  if (typeof length === 'number' && length > MAX_LENGTH) return positions
  return Math.min(positions, config.integer('model_max_length', undefined, 3, MAX_LENGTH))
}

/**
 * In transformers, special_tokens_map.json takes precedence over tokenizer_config.json, unless the latter has
 * `added_tokens_decoder` (since version 4.34). In Stable Diffusion 2's files they differ, and the map has '!'.
 */
function readPadToken(config: ConfigReader | undefined, special: ConfigReader | undefined): string {
  const sources = config?.has('added_tokens_decoder') ? [config, special] : [special, config]
  for (const source of sources) {
    if (!source?.has('pad_token')) continue
    const token = source.get('pad_token')
    return typeof token === 'string' ? token : source.child('pad_token').string('content')
  }
  return CLIP_PAD
}

async function readOptional(path: string): Promise<ConfigReader | undefined> {
  return (await isFile(path)) ? ConfigReader.read(path) : undefined
}

export async function isFile(path: string): Promise<boolean> {
  // prettier-ignore
  return stat(path).then((s) => s.isFile(), () => false)
}

export async function isFolder(path: string): Promise<boolean> {
  // prettier-ignore
  return stat(path).then((s) => s.isDirectory(), () => false)
}
