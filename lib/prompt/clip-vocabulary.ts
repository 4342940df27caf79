/**
 * CLIP's vocabulary of 49,408 tokens, for models without a tokenizer, such as all single-file checkpoints.
 *
 * The data is OpenAI's (MIT). scripts/clip-merges.mjs writes it to models/clip/, a merge per line, compressed.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { brotliDecompress } from 'node:zlib'
import { DiffusionError } from '../errors.js'
import { inSlices } from '../event-loop.js'
import { modelFolder } from '../package-root.js'

/** 512 byte symbols, the merges, and the begin and end tokens. */
export const CLIP_VOCABULARY_SIZE = 49408
const MERGES = CLIP_VOCABULARY_SIZE - 512 - 2
const LAST_MERGE = 'jeky ll</w>'
/** Entries between two points where the work can be interrupted. */
const STRIDE = 512

/** The ids of tokens, and the pairs that are merged in order of rank: 'a b', or in newer files ['a', 'b']. */
export interface Vocabulary {
  vocab: Map<string, number>
  merges: string[] | [string, string][]
}

let loaded: Promise<Vocabulary> | undefined

/** The vocabulary, which is read once per process; about 1 MB stays in memory. */
export function clipVocabulary(): Promise<Vocabulary> {
  loaded ??= readMerges().then(async (merges) => ({ merges, vocab: await inSlices(numberTokens(merges)) }))
  // After a failure it is read again: a missing file may be installed later.
  loaded.catch(() => (loaded = undefined))
  return loaded
}

async function readMerges(): Promise<string[]> {
  const path = join(modelFolder('clip'), 'merges.txt.br')
  let text: Buffer
  try {
    text = await promisify(brotliDecompress)(await readFile(path))
  } catch (cause) {
    throw new DiffusionError('IO', `Cannot read the built-in CLIP vocabulary from ${path}`, { cause })
  }
  const merges = await inSlices(lines(text))
  if (merges.length !== MERGES || merges.at(-1) !== LAST_MERGE) {
    throw new DiffusionError(
      'MODEL_FORMAT',
      `Expected CLIP's ${MERGES} merges ending in "${LAST_MERGE}" in ${path} but found ${merges.length} ending in "${merges.at(-1)}"`,
    )
  }
  return merges
}

/** The lines of a text, each of which ends in a line feed. */
function* lines(text: Buffer): Generator<void, string[], void> {
  const found: string[] = []
  for (let begin = 0; begin < text.length;) {
    let end = begin
    for (let i = 0; i < STRIDE && end < text.length; i++) end = text.indexOf('\n', end) + 1 || text.length
    found.push(...text.toString('utf8', begin, end).trimEnd().split('\n'))
    begin = end
    yield
  }
  return found
}

/** The printable character of each byte in a byte-level vocabulary (as in GPT-2), indexed by byte. */
export function byteSymbols(): string[] {
  const symbols: string[] = []
  let shifted = 256
  for (let byte = 0; byte < 256; byte++)
    symbols.push(String.fromCharCode(isPrintable(byte) ? byte : shifted++))
  return symbols
}

function isPrintable(byte: number): boolean {
  return (byte > 32 && byte < 127) || (byte > 160 && byte !== 173)
}

/** CLIP's order of tokens: bytes, bytes that end a word, merges by rank, begin, end. */
function* numberTokens(merges: string[]): Generator<void, Map<string, number>, void> {
  const symbols = byteSymbols()
  const bytes = [
    ...symbols.filter((_, byte) => isPrintable(byte)),
    ...symbols.filter((_, byte) => !isPrintable(byte)),
  ]
  const vocab = new Map<string, number>()
  const add = (token: string) => vocab.set(token, vocab.size)
  for (const symbol of bytes) add(symbol)
  for (const symbol of bytes) add(symbol + '</w>')
  for (const [i, merge] of merges.entries()) {
    add(merge.replace(' ', ''))
    if (i % STRIDE === 0) yield
  }
  add('<|startoftext|>')
  add('<|endoftext|>')
  return vocab
}
