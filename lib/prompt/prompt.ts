/**
 * The prompt syntax of Stable Diffusion web UIs: weights in brackets, BREAK, and more than one chunk.
 *
 *     (word)      attention × 1.1       ((word)) × 1.21
 *     (word:1.3)  attention × 1.3       (word:0.5) less
 *     [word]      attention ÷ 1.1
 *     \( \) \[ \] \\   the character itself
 *     BREAK       starts a new chunk
 */
import { MAX_TEXT_LENGTH } from '../check.js'
import { TimeSlice } from '../time-slice.js'
import type { Tokenizer } from './tokenizer.js'

export { applyWeights } from './emphasis.js'

const STRONGER = 1.1
const WEAKER = 1 / 1.1

/** A part of a prompt with one weight. `breakBefore`: it starts a new chunk. */
export interface PromptPart {
  text: string
  weight: number
  breakBefore?: boolean
}

/**
 * Splits a prompt into parts of equal weight. There are no syntax errors: a closing bracket without an opening one is
 * plain text, and an open bracket closes at the end of the prompt.
 */
export function parsePrompt(prompt: string): PromptPart[] {
  const parts: PromptPart[] = []
  // Start of each open bracket. Round and square brackets may overlap, so each kind has its own stack.
  const round: number[] = []
  const square: number[] = []
  const multiplyFrom = (start: number, factor: number): void => {
    for (let i = start; i < parts.length; i++) parts[i].weight *= factor
  }
  for (const lexeme of lexemes(prompt)) {
    if (lexeme === '(') round.push(parts.length)
    else if (lexeme === '[') square.push(parts.length)
    else if (lexeme === ')' && round.length > 0) multiplyFrom(round.pop()!, STRONGER)
    else if (lexeme === ']' && square.length > 0) multiplyFrom(square.pop()!, WEAKER)
    else if (WEIGHT_END.test(lexeme) && round.length > 0) multiplyFrom(round.pop()!, weightOf(lexeme))
    else if (lexeme.startsWith('\\')) parts.push({ text: lexeme.slice(1), weight: 1 })
    else pushText(parts, lexeme)
  }
  for (const start of round) multiplyFrom(start, STRONGER)
  for (const start of square) multiplyFrom(start, WEAKER)
  return joinEqual(parts)
}

/** `:1.3)`, a weight that closes a round bracket. */
const WEIGHT = /:\s*[+-]?(?:\d+(?:\.\d*)?|\.\d+)\s*\)/
const WEIGHT_END = new RegExp(`^${WEIGHT.source}$`)
const LEXEME = new RegExp(String.raw`\\[()[\]\\]?|${WEIGHT.source}|[()[\]:]|[^\\()[\]:]+`, 'g')

function lexemes(prompt: string): string[] {
  return prompt.match(LEXEME) ?? []
}

function weightOf(lexeme: string): number {
  return Number(lexeme.slice(1, -1).trim())
}

function pushText(parts: PromptPart[], text: string): void {
  // Blanks around BREAK are trimmed. A pattern for them would take quadratic time with many blanks.
  const stretches = text.split(/\bBREAK\b/)
  stretches.forEach((stretch, i) => {
    if (i > 0) stretch = stretch.trimStart()
    if (i < stretches.length - 1) stretch = stretch.trimEnd()
    parts.push({ text: stretch, weight: 1, ...(i > 0 && { breakBefore: true }) })
  })
}

/** Joins neighbours of equal weight, so that a word with a colon or an escape is not split. */
function joinEqual(parts: PromptPart[]): PromptPart[] {
  const joined: PromptPart[] = []
  for (const part of parts) {
    const last = joined.at(-1)
    if (last && !part.breakBefore && (part.text === '' || part.weight === last.weight)) last.text += part.text
    else if (last?.text === '' && !part.breakBefore)
      Object.assign(last, { text: part.text, weight: part.weight })
    else joined.push({ ...part })
  }
  return joined.length > 0 ? joined : [{ text: '', weight: 1 }]
}

/** A tokenized prompt: `chunks` rows of the tokenizer's `maxLength`. */
export interface PromptChunks {
  /** [chunks, maxLength]; each row is begin, at most maxLength − 2 tokens, end, padding. */
  tokens: Int32Array
  /** [chunks, maxLength]: the weight of each token; 1 for begin, end and padding. */
  weights: Float32Array
  chunks: number
}

/** A full chunk is split at a comma among its last tokens: 20 of CLIP's 75, as in web UIs. */
const COMMA_REACH = 20 / 75

/**
 * Tokenizes a prompt of any length into chunks. A full chunk is split after its last comma if there is one near its
 * end, so that phrases stay together, and otherwise where it is full.
 *
 * @param options.weighting whether brackets, backslashes and BREAK have their meaning. Default: true
 * @param options.slice divides the work, so that the event loop is not kept waiting
 * @throws {RangeError} more chunks than 8,192 tokens fill
 */
export async function chunkPrompt(
  tokenizer: Tokenizer,
  prompt: string,
  options: { weighting?: boolean; slice?: TimeSlice } = {},
): Promise<PromptChunks> {
  const { slice = new TimeSlice() } = options
  const room = tokenizer.maxLength - 2
  const maxChunks = Math.ceil(MAX_TEXT_LENGTH / room)
  const reach = Math.round(room * COMMA_REACH)
  const comma = tokenizer.ids(',')[0]
  const rows: Row[] = [{ ids: [], weights: [] }]
  const parts = options.weighting === false ? [{ text: prompt, weight: 1 }] : parsePrompt(prompt)
  for (const { text, weight, breakBefore } of parts) {
    if (breakBefore) rows.push({ ids: [], weights: [] })
    for (const ids of tokenizer.pieces(text)) {
      // An embedding that fits into a chunk is not split.
      const { length } = rows.at(-1)!.ids
      if (tokenizer.startsEmbedding(ids[0]) && ids.length <= room && length + ids.length > room)
        rows.push({ ids: [], weights: [] })
      for (const id of ids) {
        if (rows.at(-1)!.ids.length === room)
          rows.push(overflow(rows.at(-1)!, id === comma ? 0 : reach, comma))
        rows.at(-1)!.ids.push(id)
        rows.at(-1)!.weights.push(weight)
      }
      await slice.pause()
    }
    if (rows.length > maxChunks) throw tooLong(maxChunks, room)
  }
  // A prompt that ends with BREAK has no empty chunk after it.
  if (rows.length > 1 && rows.at(-1)!.ids.length === 0) rows.pop()
  return toChunks(tokenizer, rows)
}

/** Characters outside of Latin scripts can take several tokens each, and BREAK a whole chunk. */
function tooLong(chunks: number, room: number): RangeError {
  return new RangeError(`Expected a prompt of at most ${chunks} chunks of ${room} tokens but received more`)
}

interface Row {
  ids: number[]
  weights: number[]
}

/**
 * Splits a full row after its last comma within `reach` of its end; returns the next row, with the remaining tokens.
 */
function overflow(row: Row, reach: number, comma: number): Row {
  const at = row.ids.lastIndexOf(comma)
  const cut = at >= 0 && row.ids.length - at <= reach ? at + 1 : row.ids.length
  return { ids: row.ids.splice(cut), weights: row.weights.splice(cut) }
}

function toChunks(tokenizer: Tokenizer, rows: Row[]): PromptChunks {
  const length = tokenizer.maxLength
  const tokens = new Int32Array(rows.length * length)
  const weights = new Float32Array(rows.length * length).fill(1)
  rows.forEach((row, i) => {
    tokens.set(tokenizer.chunk(row.ids), i * length)
    weights.set(row.weights, i * length + 1)
  })
  return { tokens, weights, chunks: rows.length }
}

/** Appends chunks of the empty prompt up to `chunks`, because both halves of guidance must have the same length. */
export function padChunks(tokenizer: Tokenizer, prompt: PromptChunks, chunks: number): PromptChunks {
  if (prompt.chunks >= chunks) return prompt
  const length = tokenizer.maxLength
  const tokens = new Int32Array(chunks * length)
  const weights = new Float32Array(chunks * length).fill(1)
  tokens.set(prompt.tokens)
  weights.set(prompt.weights)
  const empty = tokenizer.chunk([])
  for (let i = prompt.chunks; i < chunks; i++) tokens.set(empty, i * length)
  return { tokens, weights, chunks }
}

/** Pads a prompt and a negative prompt to the same number of chunks. */
export function equalizeChunks(
  tokenizer: Tokenizer,
  a: PromptChunks,
  b: PromptChunks,
): [PromptChunks, PromptChunks] {
  const chunks = Math.max(a.chunks, b.chunks)
  return [padChunks(tokenizer, a, chunks), padChunks(tokenizer, b, chunks)]
}
