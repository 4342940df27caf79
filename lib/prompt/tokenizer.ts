import { checkInteger, checkString, checkText, expectation, isReadable } from '../check.js'
import { DiffusionError } from '../errors.js'
import { quote } from '../quote.js'
import type { TokenizerDescription } from '../types.js'
import { byteSymbols } from './clip-vocabulary.js'
import { EmbeddingNames, type NamedEmbedding } from './embedding-names.js'
import { createBpe, type BpeTokenizer } from './bpe.js'
import { readVocabulary } from './vocabulary.js'

const BEGIN = '<|startoftext|>'
const END = '<|endoftext|>'
/** Number of positions of CLIP's text encoder. */
const CLIP_LENGTH = 77

/** Longer chunks are refused: those of published models have 77 ids. */
const MAX_LENGTH = 65_536

/** Decoding is synchronous, so a very long list would block the event loop. */
const MAX_IDS = 1 << 20

const QUESTION_MARK = 63
const SYMBOL_BYTES = new Map(byteSymbols().map((symbol, byte) => [symbol, byte]))

/**
 * CLIP's byte-level BPE tokenizer (Radford et al. 2021). Its ids are those of transformers' CLIPTokenizer.
 *
 * ```ts
 * const tokenizer = await Tokenizer.create(null)      // CLIP's 49,408 tokens
 * tokenizer.encode('a photo of a cat')                // Int32Array(77) [49406, 320, 1125, …, 49407, 49407]
 * ```
 */
export class Tokenizer {
  /** Number of ids in one chunk, including begin and end: 77 for CLIP. */
  readonly maxLength: number
  /** Id of the token that begins every chunk. */
  readonly bos: number
  /** Id of the token that ends the text of every chunk. */
  readonly eos: number
  /** Id of the token that pads chunks. */
  readonly pad: number
  /**
   * Whether the vocabulary represents every text.
   *
   * @internal
   */
  readonly complete: boolean
  /**
   * The token of the largest id, which the text encoder must know.
   *
   * @internal
   */
  readonly last: { token: string; id: number }
  readonly #bpe: BpeTokenizer
  readonly #padToken: string
  readonly #trained: ReadonlySet<string>
  readonly #embeddings: EmbeddingNames | undefined

  private constructor(
    bpe: BpeTokenizer,
    maxLength: number,
    padToken: string,
    last: { token: string; id: number },
    trained: ReadonlySet<string>,
    embeddings?: EmbeddingNames,
  ) {
    this.last = last
    this.#padToken = padToken
    this.#trained = trained
    this.#embeddings = embeddings
    const has = (token: string) => bpe.token_to_id(token) !== undefined
    const id = (token: string): number => {
      const found = bpe.token_to_id(token)
      if (found === undefined) {
        throw new DiffusionError(
          'MODEL_FORMAT',
          `Expected the token ${quote(token, 60)} in the tokenizer's vocabulary but it has none`,
        )
      }
      return found
    }
    this.#bpe = bpe
    this.complete = byteSymbols().every((symbol) => has(symbol) && has(`${symbol}</w>`))
    this.maxLength = maxLength
    this.bos = id(BEGIN)
    this.eos = id(END)
    this.pad = id(padToken)
  }

  /**
   * Creates a tokenizer from the texts of a model's files.
   *
   * @param description null: the built-in CLIP vocabulary
   * @param maxLength length of a chunk. Default: as in the tokenizer's files
   * @throws {DiffusionError} MODEL_FORMAT: the texts are not those of a CLIP tokenizer
   */
  static async create(description: TokenizerDescription | null, maxLength?: number): Promise<Tokenizer> {
    if (description !== null && !isReadable(description))
      throw new TypeError(expectation('object or null', 'description', description))
    const length = maxLength ?? description?.maxLength ?? CLIP_LENGTH
    checkInteger(length, 'maxLength', 3, MAX_LENGTH)
    const padToken = checkString(description?.padToken ?? END, 'padToken')
    const vocabulary = await readVocabulary(description)
    const { tokenizer, last } = await createBpe(vocabulary)
    const trained = new Set(vocabulary.added.map(({ content }) => content))
    return new Tokenizer(tokenizer, length, padToken, last, trained)
  }

  /**
   * The same tokenizer, for which the names of embeddings in a text stand for the ids of their vectors.
   *
   * @internal
   */
  withEmbeddings(embeddings: readonly NamedEmbedding[]): Tokenizer {
    if (embeddings.length === 0) return this
    const names = new EmbeddingNames(embeddings)
    return new Tokenizer(this.#bpe, this.maxLength, this.#padToken, this.last, this.#trained, names)
  }

  /**
   * A text without the names of embeddings and trained tokens.
   *
   * @internal
   */
  withoutEmbeddings(text: string): string {
    const rest = this.#embeddings?.without(text) ?? text
    return [...this.#trained].reduce((left, token) => left.replaceAll(token, ' '), rest)
  }

  /**
   * Whether this is the id of an embedding's first vector.
   *
   * @internal
   */
  startsEmbedding(id: number): boolean {
    return this.#embeddings?.byId.has(id) ?? false
  }

  /**
   * Encodes a text as one chunk of `maxLength` ids: begin, the text (truncated if it is too long), end, padding.
   *
   * @throws {TypeError} not a string
   * @throws {RangeError} more than 8,192 characters
   */
  encode(text: string): Int32Array {
    return this.chunk(this.ids(text))
  }

  /**
   * The ids of a text, without begin, end and padding. There may be more of them than fit into one chunk.
   *
   * @throws as encode()
   */
  ids(text: string): number[] {
    return [...this.pieces(text)].flat()
  }

  /**
   * The ids of a text, piece by piece, so that a long text need not be tokenized all at once. All ids of an embedding
   * are one piece.
   *
   * @internal
   */
  *pieces(text: string): Generator<number[], void, undefined> {
    const clean = cleanText(checkText(text, 'text'))
    for (const part of this.#embeddings?.split(clean) ?? [clean]) {
      if (typeof part !== 'string') yield [...part]
      else
        for (const piece of splitText(part)) yield this.#bpe.encode(piece, { add_special_tokens: false }).ids
    }
  }

  /** Makes one chunk of ids; those beyond `maxLength − 2` are dropped. */
  chunk(ids: ArrayLike<number>): Int32Array {
    const list = copyIds(ids)
    const chunk = new Int32Array(this.maxLength).fill(this.pad)
    const count = Math.min(list.length, this.maxLength - 2)
    chunk[0] = this.bos
    for (let i = 0; i < count; i++) chunk[i + 1] = list[i]
    chunk[count + 1] = this.eos
    return chunk
  }

  /** Decodes ids to text in lower case, with one blank between words. Begin, end and padding are dropped. */
  decode(ids: ArrayLike<number>): string {
    const list = copyIds(ids)
    const kept: number[] = []
    let ended = false
    for (let i = 0; i < list.length; i++) {
      if (list[i] === this.bos) ended = false
      else if (list[i] === this.eos) ended = true
      // The padding token can be an ordinary token ('!' in SD 2). After an end, text starts at the next begin.
      else if (!ended || list[i] !== this.pad) kept.push(list[i])
    }
    const bytes: number[] = []
    for (const id of kept) {
      const name = this.#embeddings?.byId.get(id)
      if (name !== undefined) bytes.push(...Buffer.from(`${name}</w>`))
      for (const symbol of this.#bpe.id_to_token(id) ?? '')
        bytes.push(SYMBOL_BYTES.get(symbol) ?? QUESTION_MARK)
    }
    const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(Uint8Array.from(bytes))
    return text.replaceAll('</w>', ' ').replace(/^ +| +$/g, '')
  }

  /**
   * The words of a text that the vocabulary cannot represent. A full byte-level vocabulary represents every word. One
   * that was reduced to the words of its captions encodes others as the end token, which ends the prompt there.
   *
   * @throws as encode()
   */
  unknownWords(text: string): string[] {
    checkText(text, 'text')
    if (this.complete) return []
    const words = text.replaceAll(BEGIN, ' ').replaceAll(END, ' ').split(/\s+/)
    return [...new Set(words)].filter((word) => this.ids(word).includes(this.eos))
  }
}

/** A copy of a list of numbers. Ids that the vocabulary does not have are left out when they are decoded. */
function copyIds(ids: unknown): number[] {
  const { length } = (isReadable(ids) ? ids : {}) as Partial<ArrayLike<unknown>>
  if (typeof length !== 'number' || !Number.isInteger(length) || length < 0)
    throw new TypeError(expectation('array of ids', 'ids', ids))
  if (length > MAX_IDS) throw new RangeError(`Expected at most ${MAX_IDS} ids but received ${length}`)
  return Array.from({ length }, (_, i) => {
    const id = (ids as ArrayLike<unknown>)[i]
    if (typeof id !== 'number') throw new TypeError(expectation('number', `ids[${i}]`, id))
    return id
  })
}

/**
 * Evens out differences between the JavaScript library and the Rust one that defines CLIP's ids: a lone surrogate
 * becomes U+FFFD, as in any UTF-8 encoder; Σ is lower-cased to σ, and not to ς at the end of a word as in JavaScript;
 * and special tokens must be spelt exactly.
 */
function cleanText(text: string): string {
  return text
    .replace(/\p{Surrogate}/gu, '\ufffd')
    .replaceAll('Σ', 'σ')
    .replace(/<\|((?:start|end)oftext\|>)/gi, (token, rest: string) =>
      token === BEGIN || token === END ? token : `<| ${rest}`,
    )
}

/** A text is cut into pieces of at least this many characters. */
const PIECE = 256

/**
 * Cuts a text where no token can span the cut: before a blank, and before a digit, which is always a word of its own.
 * Both are ASCII, so that normalization does not join them with what is in front of them.
 */
function* splitText(text: string): Generator<string, void, undefined> {
  let begin = 0
  do {
    let end = begin + PIECE
    while (end < text.length && !CUT.test(text[end])) end++
    yield text.slice(begin, end)
    begin = end
  } while (begin < text.length)
}

const CUT = /[ \t\n\r0-9]/
