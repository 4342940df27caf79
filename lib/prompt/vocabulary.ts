import { DiffusionError } from '../errors.js'
import { inSlices } from '../event-loop.js'
import { parseInSteps, type ParseOptions } from '../json-parser.js'
import { parseShort } from '../short-json.js'
import { quote, show } from '../quote.js'
import type { AddedToken, TokenizerDescription } from '../types.js'
import { byteSymbols, clipVocabulary, type Vocabulary } from './clip-vocabulary.js'

/** Reads and checks the texts of a tokenizer's files. Errors name the file and the entry. */

/** Bounds of a vocabulary. CLIP's has 49,408 tokens. */
const MAX_TOKENS = 65_536
const MAX_ID = 1 << 24
/** In UTF-16 units. */
const MAX_TOKEN = 1024
const MAX_TEXT = 32 << 20
/** Entries between two points where the work can be interrupted. */
const STRIDE = 512

const SPECIAL = ['<|startoftext|>', '<|endoftext|>']
const END_OF_WORD = '</w>'

export interface CheckedVocabulary extends Vocabulary {
  /** Trained tokens, which texts are searched for before they are split into words. */
  added: readonly AddedToken[]
}

/** @throws {DiffusionError} MODEL_FORMAT: a text is damaged or too long, or belongs to another kind of tokenizer */
export async function readVocabulary(description: TokenizerDescription | null): Promise<CheckedVocabulary> {
  const { vocab, merges, tokenizerJson } = description ?? {}
  const given = description?.addedTokens ?? []
  if (vocab !== undefined && merges !== undefined) {
    const checked = await readVocab(vocab)
    return finish('merges.txt', { vocab: checked, merges: await inSlices(readMerges(merges)) }, given)
  }
  if (tokenizerJson !== undefined) {
    const { model, added } = await readTokenizerJson(tokenizerJson)
    return finish('tokenizer.json', model, given.length > 0 ? given : added)
  }
  if (vocab !== undefined || merges !== undefined) {
    const missing = vocab === undefined ? 'vocab.json' : 'merges.txt'
    throw wrong(`Expected both vocab.json and merges.txt but ${missing} is missing`)
  }
  // A description without texts has a length and a padding token only, as for single files of Stable Diffusion 2.
  const clip = await clipVocabulary()
  return { ...clip, added: await inSlices(checkAdded(clip.vocab, given)) }
}

async function readVocab(text: string): Promise<Map<string, number>> {
  const vocab = new Map<string, number>()
  const onField = (token: string, id: unknown) => addToken('vocab.json', vocab, token, id)
  const parsed = await parse('vocab.json', text, { onField })
  if (!isObject(parsed)) throw wrong(`vocab.json: expected an object but received ${show(parsed)}`)
  return vocab
}

function addToken(file: string, vocab: Map<string, number>, token: string, id: unknown): void {
  if (vocab.size === MAX_TOKENS) throw wrong(`${file}: expected at most ${MAX_TOKENS} tokens`)
  if (token.length > MAX_TOKEN)
    throw wrong(
      `${file}: expected tokens of at most ${MAX_TOKEN} characters but received ${quote(token, 60)}`,
    )
  if (!isId(id)) {
    throw wrong(
      `${file}: expected an integer from 0 to ${MAX_ID - 1} for the token ${quote(token, 60)} but received ${show(id)}`,
    )
  }
  vocab.set(token, id)
}

/** merges.txt has a version line, then one pair in each line. */
function* readMerges(text: string): Generator<void, [string, string][], void> {
  if (text.length > MAX_TEXT) throw wrong(`merges.txt: expected at most ${MAX_TEXT} characters`)
  const merges: [string, string][] = []
  let number = 0
  for (let at = 0; at < text.length;) {
    if (++number % STRIDE === 0) yield
    const found = text.indexOf('\n', at)
    const end = found === -1 ? text.length : found
    const line = text.slice(at, Math.min(end, at + 3 * MAX_TOKEN)).replace(/\r$/, '')
    at = end + 1
    if (line === '' || (number === 1 && line.startsWith('#version'))) continue
    if (merges.length === MAX_TOKENS) throw wrong(`merges.txt: expected at most ${MAX_TOKENS} merges`)
    merges.push(checkPair(`merges.txt: line ${number}`, line.split(' ')))
  }
  return merges
}

function checkPair(where: string, pair: unknown): [string, string] {
  const parts: unknown = typeof pair === 'string' ? pair.split(' ') : pair
  const valid =
    Array.isArray(parts) &&
    parts.length === 2 &&
    parts.every((part) => typeof part === 'string' && part !== '' && part.length <= MAX_TOKEN)
  if (valid) return parts as [string, string]
  throw wrong(
    `${where}: expected two tokens but received ${show(Array.isArray(pair) ? pair.slice(0, 3) : pair)}`,
  )
}

async function readTokenizerJson(text: string): Promise<{ model: Vocabulary; added: AddedToken[] }> {
  const file = 'tokenizer.json'
  const json = await parse(file, text, {})
  const fields = isObject(json) ? json : {}
  const model = isObject(fields.model) ? fields.model : undefined
  if (!isObject(model?.vocab) || !Array.isArray(model.merges)) {
    throw wrong(
      `Expected a BPE model with vocab and merges in tokenizer.json but found ${show(model?.type ?? 'none')}`,
    )
  }
  const { vocab: tokens, merges } = model as { vocab: Record<string, unknown>; merges: unknown[] }
  if (merges.length > MAX_TOKENS) throw wrong(`${file}: expected at most ${MAX_TOKENS} merges`)
  return inSlices(
    (function* () {
      const vocab = new Map<string, number>()
      for (const token in tokens) {
        addToken(file, vocab, token, tokens[token])
        if (vocab.size % STRIDE === 0) yield
      }
      const pairs: [string, string][] = []
      for (const [i, pair] of merges.entries()) {
        pairs.push(checkPair(`${file}: merges[${i}]`, pair))
        if (i % STRIDE === 0) yield
      }
      return { model: { vocab, merges: pairs }, added: addedTokensOf(file, fields.added_tokens) }
    })(),
  )
}

/** The trained tokens in the `added_tokens` of a tokenizer.json. CLIP's own two are not among them. */
export function addedTokensOf(file: string, list: unknown): AddedToken[] {
  if (list === undefined || list === null) return []
  if (!Array.isArray(list))
    throw wrong(`${file}: expected a list for added_tokens but received ${show(list)}`)
  if (list.length > MAX_TOKENS) throw wrong(`${file}: expected at most ${MAX_TOKENS} added tokens`)
  return list.flatMap((entry: unknown, i) => {
    const fields = isObject(entry) ? entry : {}
    const token = addedToken(`${file}: added_tokens[${i}]`, fields.content, fields.id, fields)
    return SPECIAL.includes(token.content) ? [] : [token]
  })
}

/** One trained token; `flags` are those of tokenizer.json. */
export function addedToken(
  where: string,
  content: unknown,
  id: unknown,
  flags: Readonly<Record<string, unknown>> = {},
): AddedToken {
  if (typeof content !== 'string' || content === '' || content.length > MAX_TOKEN)
    throw wrong(`${where}: expected a token but received ${show(content)}`)
  if (!isId(id)) {
    throw wrong(
      `${where}: expected an integer from 0 to ${MAX_ID - 1} for the token ${quote(content, 60)} but received ${show(id)}`,
    )
  }
  return {
    content,
    id,
    ...(flags.normalized === false && { normalized: false }),
    ...(flags.lstrip === true && { lstrip: true }),
    ...(flags.rstrip === true && { rstrip: true }),
  }
}

async function finish(
  file: string,
  { vocab, merges }: Vocabulary,
  added: readonly AddedToken[],
): Promise<CheckedVocabulary> {
  await inSlices(checkMerges(file, vocab, merges, added))
  return { vocab, merges, added: await inSlices(checkAdded(vocab, added)) }
}

/** Checks that merges and vocabulary belong together, and that the merges are all there. */
function* checkMerges(
  file: string,
  vocab: Map<string, number>,
  merges: Vocabulary['merges'],
  added: readonly AddedToken[],
): Generator<void, void, void> {
  const made = new Set<string>([...SPECIAL, ...added.map(({ content }) => content)])
  for (const symbol of byteSymbols()) made.add(symbol).add(symbol + END_OF_WORD)
  for (const [i, pair] of merges.entries()) {
    if (i % STRIDE === 0) yield
    const token = typeof pair === 'string' ? pair.replace(' ', '') : pair[0] + pair[1]
    if (!vocab.has(token))
      throw wrong(
        `${file}: merge ${i + 1} makes ${quote(token, 60)}, which is not in the vocabulary. Is the file cut short?`,
      )
    made.add(token)
  }
  // Later merges make tokens of higher ids: if the end is missing, so is what makes the last token.
  let last: string | undefined
  let steps = 0
  let lastId = -1
  for (const [token, id] of vocab) {
    if (++steps % STRIDE === 0) yield
    if (id <= lastId || /^<.*>$/.test(token) || SPECIAL.includes(token)) continue
    last = token
    lastId = id
  }
  if (last !== undefined && !made.has(last))
    throw wrong(
      `${file}: expected a merge that makes the last token ${quote(last, 60)}, found none. Is the file cut short?`,
    )
}

function* checkAdded(
  vocab: Map<string, number>,
  added: readonly AddedToken[],
): Generator<void, readonly AddedToken[], void> {
  if (added.length === 0) return added
  const taken = new Map<number, string>()
  for (const [token, id] of vocab) if (taken.set(id, token).size % STRIDE === 0) yield
  for (const [i, { content, id }] of added.entries()) {
    if (i % STRIDE === 0) yield
    const other = taken.get(id)
    if (other !== undefined && other !== content)
      throw wrong(`The added token ${quote(content, 60)} has the id ${id} of the token ${quote(other, 60)}`)
    taken.set(id, content)
  }
  return added
}

async function parse(file: string, text: string, options: ParseOptions): Promise<unknown> {
  if (text.length > MAX_TEXT) throw wrong(`${file}: expected at most ${MAX_TEXT} characters`)
  try {
    const bytes = Buffer.from(text)
    const short = parseShort(bytes, options)
    return short ? short.value : await inSlices(parseInSteps(bytes, options))
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause
    throw new DiffusionError('MODEL_FORMAT', `Cannot read the tokenizer's ${file}: it ${cause.message}`, {
      cause,
    })
  }
}

function isId(id: unknown): id is number {
  return typeof id === 'number' && Number.isInteger(id) && id >= 0 && id < MAX_ID
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function wrong(message: string): DiffusionError {
  return new DiffusionError('MODEL_FORMAT', message)
}
