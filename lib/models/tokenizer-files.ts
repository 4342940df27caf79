import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { ConfigReader, readText } from './families/config-reader.js'
import { badFormat } from './formats/fail.js'
import { parseJson } from './formats/json.js'
import type { TokenizerDescription } from './model-description.js'
import { quote, show } from '../quote.js'
import type { AddedToken } from '../types.js'

/** Largest sizes of files: CLIP's have 1 MB, 0.5 MB and up to 4 MB. */
const MAX_BYTES = { vocab: 8 << 20, merges: 8 << 20, tokenizerJson: 32 << 20 }
/** Trained tokens of one tokenizer. */
const MAX_ADDED = 16_384
const MAX_ID = (1 << 24) - 1
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
    if (await isFile(path)) texts[key] = await readText(path, MAX_BYTES[key])
  }
  if (texts.tokenizerJson === undefined && (texts.vocab === undefined || texts.merges === undefined)) {
    throw badFormat(folder, 'expected vocab.json and merges.txt, or tokenizer.json, found neither')
  }

  const config = await readOptional(join(folder, 'tokenizer_config.json'))
  const special = await readOptional(join(folder, 'special_tokens_map.json'))
  const addedTokens = await readAddedTokens(folder, texts.tokenizerJson, config)
  return {
    ...texts,
    ...(addedTokens.length > 0 && { addedTokens }),
    maxLength: readMaxLength(config, positions),
    padToken: readPadToken(config, special),
  }
}

/**
 * Trained tokens, from tokenizer.json, from `added_tokens_decoder` in tokenizer_config.json, and from the older
 * added_tokens.json. CLIP's own two tokens are not among them.
 */
async function readAddedTokens(
  folder: string,
  tokenizerJson: string | undefined,
  config: ConfigReader | undefined,
): Promise<AddedToken[]> {
  const found = new Map<string, AddedToken>()
  const add = (reader: ConfigReader, key: string, id: number, content: string, flags?: ConfigReader) => {
    if (content === '' || content.length > 1024) throw reader.fail(key, 'token of 1 to 1024 characters')
    if (found.size === MAX_ADDED) throw badFormat(reader.path, `expected at most ${MAX_ADDED} added tokens`)
    if (content === '<|startoftext|>' || content === '<|endoftext|>' || found.has(content)) return
    const flag = (name: string) => flags?.get(name)
    found.set(content, {
      content,
      id,
      ...(flag('normalized') === false && { normalized: false }),
      ...(flag('lstrip') === true && { lstrip: true }),
      ...(flag('rstrip') === true && { rstrip: true }),
    })
  }
  const path = join(folder, 'tokenizer.json')
  const list = tokenizerJson === undefined ? [] : await firstField(path, tokenizerJson, 'added_tokens')
  if (list !== undefined && list !== null && !Array.isArray(list))
    throw badFormat(path, `expected a list for added_tokens but received ${show(list)}`)
  for (const [i, entry] of (list ?? []).entries()) {
    const token = ConfigReader.of(path, entry, `added_tokens[${i}]`)
    add(token, 'content', token.integer('id', undefined, 0, MAX_ID), token.string('content'), token)
  }
  if (config?.has('added_tokens_decoder')) {
    const decoder = config.child('added_tokens_decoder')
    for (const key of decoder.keys()) {
      if (!/^\d{1,8}$/.test(key))
        throw badFormat(
          config.path,
          `expected ids as keys of added_tokens_decoder but received ${quote(key, 60)}`,
        )
      const token = decoder.child(key)
      add(token, 'content', Number(key), token.string('content'), token)
    }
  }
  const older = await readOptional(join(folder, 'added_tokens.json'))
  for (const content of older?.keys() ?? [])
    add(older!, content, older!.integer(content, undefined, 0, MAX_ID), content)
  return [...found.values()]
}

/** Thrown to stop parsing. */
class Found extends Error {
  constructor(readonly value: unknown) {
    super()
  }
}

/** One field of a JSON object; what follows it is not read. */
async function firstField(path: string, text: string, key: string): Promise<unknown> {
  const onField = (name: string, value: unknown) => {
    if (name === key) throw new Found(value)
  }
  try {
    await parseJson(path, Buffer.from(text), { onField })
    return undefined
  } catch (error) {
    if (error instanceof Found) return error.value
    throw error
  }
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
