import { isUtf8 } from 'node:buffer'
import { quote } from './quote.js'

/**
 * Parses JSON step by step, so that the event loop can turn in between: `JSON.parse` would keep it for a second with a
 * hundred megabytes. It also keeps the last one of equal keys without a word.
 */

export interface ParseOptions {
  /** Refuses an object that has the same key twice. Otherwise the last value counts, as in `JSON.parse`. */
  unique?: boolean
  /** Receives the fields of the outermost object one by one; the result is then empty. */
  onField?: (key: string, value: unknown) => void
  /** Also accepts NaN, Infinity and -Infinity, which Python's json module writes. */
  nonFinite?: boolean
}

/** Maximum number of values in one text, which bounds the memory that it takes. */
const MAX_VALUES = 2_000_000
const MAX_DEPTH = 64
/** Maximum number of keys of one object: more of them would be moved at once when its table grows. */
const MAX_KEYS = 200_000
/** Maximum number of characters of a number, and of blanks between two values. */
const MAX_NUMBER = 400
const MAX_BLANKS = 64 << 10
/** Bytes between two points where the work can be interrupted. */
const STRIDE = 16 << 10

const [TAB, NEWLINE, RETURN, BLANK, QUOTE, MINUS, COMMA, ZERO, NINE, COLON] = [
  9, 10, 13, 32, 34, 45, 44, 48, 57, 58,
]
const [LETTER_I, LETTER_N] = [73, 78]
const [OPEN_LIST, BACKSLASH, CLOSE_LIST, LETTER_U, OPEN_OBJECT, CLOSE_OBJECT] = [91, 92, 93, 117, 123, 125]
const NON_FINITE = /^(NaN|-?Infinity)$/
const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/

/**
 * Parses `bytes`. Objects have no prototype.
 *
 * @throws {SyntaxError} it is not valid JSON in UTF-8; the message names the position
 */
export function parseInSteps(bytes: Buffer, options: ParseOptions = {}): Generator<void, unknown, void> {
  return new Parser(bytes, options).run()
}

/** A list or object that is not complete. */
interface Open {
  list?: unknown[]
  object?: Record<string, unknown>
  keys: number
  key: string
}

class Parser {
  #at = 0
  #pause = STRIDE
  #values = 0
  readonly #keys = new Set<string>()

  constructor(
    private readonly bytes: Buffer,
    private readonly options: ParseOptions,
  ) {}

  *run(): Generator<void, unknown, void> {
    yield* this.#checkEncoding()
    const result = yield* this.#value()
    for (; this.#at < this.bytes.length; yield) this.#blanks()
    return result
  }

  *#checkEncoding(): Generator<void, void, void> {
    const { bytes } = this
    if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) this.#at = 3
    for (let at = 0; at < bytes.length; yield) {
      const end = characterStart(bytes, Math.min(at + (1 << 20), bytes.length))
      if (end <= at || !isUtf8(bytes.subarray(at, end)))
        throw new SyntaxError('is not valid JSON: expected text in UTF-8, found other bytes')
      at = end
    }
  }

  *#value(): Generator<void, unknown, void> {
    const stack: Open[] = []
    for (;;) {
      if (this.#at > this.#pause) {
        this.#pause = this.#at + STRIDE
        yield
      }
      if (++this.#values > MAX_VALUES) throw this.#fail(`expected at most ${MAX_VALUES} values`)
      const first = this.#peek()
      let value: unknown
      if (first === OPEN_OBJECT || first === OPEN_LIST) {
        if (stack.length === MAX_DEPTH) throw this.#fail(`expected at most ${MAX_DEPTH} levels`)
        this.#at++
        const open: Open =
          first === OPEN_LIST
            ? { list: [], keys: 0, key: '' }
            : { object: Object.create(null) as Record<string, unknown>, keys: 0, key: '' }
        if (this.#peek() !== (open.list ? CLOSE_LIST : CLOSE_OBJECT)) {
          stack.push(open)
          if (open.object) this.#key(open, stack.length === 1)
          continue
        }
        this.#at++
        value = open.list ?? open.object
      } else value = first === QUOTE ? (this.#shortString() ?? (yield* this.#longString())) : this.#scalar()

      // A value is complete, and with it perhaps the lists and objects that end with it.
      for (;;) {
        const open = stack.at(-1)
        if (!open) return value
        this.#add(open, value, stack.length === 1)
        const next = this.#peek()
        const close = open.list ? CLOSE_LIST : CLOSE_OBJECT
        if (next !== COMMA && next !== close)
          throw this.#fail(`expected "," or "${String.fromCharCode(close)}"`)
        this.#at++
        if (next === COMMA) {
          if (open.object) this.#key(open, stack.length === 1)
          break
        }
        value = open.list ?? open.object
        stack.pop()
      }
    }
  }

  #add({ list, object, key }: Open, value: unknown, outermost: boolean): void {
    if (list) list.push(value)
    else if (outermost && this.options.onField) this.options.onField(key, value)
    else object![key] = value
  }

  #key(open: Open, outermost: boolean): void {
    if (this.#peek() !== QUOTE) throw this.#fail('expected a key in quotes')
    const key = this.#shortString()
    if (key === undefined) throw this.#fail(`expected keys of at most ${STRIDE} bytes`)
    if (++open.keys > MAX_KEYS) throw this.#fail(`expected at most ${MAX_KEYS} keys of one object`)
    open.key = key
    if (this.#peek() !== COLON) throw this.#fail('expected ":"')
    this.#at++
    if (!this.options.unique) return
    const streamed = outermost && this.options.onField !== undefined
    const known = streamed ? this.#keys.has(key) : Object.hasOwn(open.object!, key)
    if (known) throw new SyntaxError(`gives ${quote(key, 60)} twice`)
    if (streamed) this.#keys.add(key)
    // The value follows; until then, the key counts as known.
    else open.object![key] = undefined
  }

  /** The string that begins here; undefined if it is longer than a stride. */
  #shortString(): string | undefined {
    const { bytes } = this
    const begin = this.#at + 1
    const limit = Math.min(begin + STRIDE, bytes.length)
    let escaped = false
    for (let i = begin; i < limit; i++) {
      const c = bytes[i]
      if (c === QUOTE) {
        this.#at = i + 1
        return this.#decode(begin, i, escaped)
      }
      if (c === BACKSLASH) {
        escaped = true
        i++
      } else if (c < BLANK) throw this.#fail('expected no control characters in strings', i)
    }
    return undefined
  }

  /** A string in pieces of one stride. */
  *#longString(): Generator<void, string, void> {
    const { bytes } = this
    const pieces: string[] = []
    let begin = this.#at + 1
    let escaped = false
    for (let i = begin; i < bytes.length; i++) {
      const c = bytes[i]
      // Neither an escape sequence nor a character of several bytes is cut.
      if (i - begin >= STRIDE && (c & 0xc0) !== 0x80) {
        pieces.push(this.#decode(begin, i, escaped))
        begin = i
        escaped = false
        yield
      }
      if (c === QUOTE) {
        pieces.push(this.#decode(begin, i, escaped))
        this.#at = i + 1
        return pieces.join('')
      }
      if (c === BACKSLASH) {
        escaped = true
        i += bytes[i + 1] === LETTER_U ? 5 : 1
      } else if (c < BLANK) throw this.#fail('expected no control characters in strings', i)
    }
    throw this.#fail('expected the end of a string', bytes.length)
  }

  #decode(begin: number, end: number, escaped: boolean): string {
    const text = this.bytes.toString('utf8', begin, end)
    if (!escaped) return text
    try {
      return JSON.parse(`"${text}"`) as string
    } catch {
      throw this.#fail('expected a valid string', begin - 1)
    }
  }

  /** A number, true, false or null. */
  #scalar(): unknown {
    const { bytes } = this
    const begin = this.#at
    let end = begin
    while (end < bytes.length && end - begin <= MAX_NUMBER && this.#isScalar(bytes[end])) end++
    const text = bytes.toString('latin1', begin, end)
    this.#at = end
    if (text === 'true') return true
    if (text === 'false') return false
    if (text === 'null') return null
    if (text.length <= MAX_NUMBER && NUMBER.test(text)) return Number(text)
    if (this.options.nonFinite && NON_FINITE.test(text)) return Number(text)
    throw this.#fail('expected a value', begin)
  }

  #isScalar(byte: number): boolean {
    return isScalar(byte) || (this.options.nonFinite === true && (byte === LETTER_I || byte === LETTER_N))
  }

  /** Skips blanks; returns the next byte, or −1 at the end. */
  #peek(): number {
    const begin = this.#at
    while (isBlank(this.bytes[this.#at]))
      if (++this.#at - begin > MAX_BLANKS) throw this.#fail(`expected at most ${MAX_BLANKS} blanks`)
    return this.bytes[this.#at] ?? -1
  }

  /** Skips the next blanks after the end. */
  #blanks(): void {
    const stop = Math.min(this.#at + STRIDE, this.bytes.length)
    while (this.#at < stop && isBlank(this.bytes[this.#at])) this.#at++
    if (this.#at < stop) throw this.#fail('expected the end')
  }

  #fail(expected: string, at = this.#at): SyntaxError {
    const found =
      at < this.bytes.length
        ? `found ${quote(this.bytes.toString('utf8', at, at + 40), 12)} at byte ${at}`
        : `found the end at byte ${at}`
    return new SyntaxError(`is not valid JSON: ${expected}, ${found}`)
  }
}

function isBlank(byte: number | undefined): boolean {
  return byte === BLANK || byte === NEWLINE || byte === RETURN || byte === TAB
}

/** Bytes of numbers, and letters. */
function isScalar(byte: number): boolean {
  return (
    (byte >= ZERO && byte <= NINE) || byte === MINUS || byte === 43 || byte === 46 || (byte | 32) === 101 ||
    (byte >= 97 && byte <= 122)
  ) // prettier-ignore
}

/** The last position up to `at` where a character begins. */
function characterStart(bytes: Buffer, at: number): number {
  while (at < bytes.length && at > 0 && (bytes[at] & 0xc0) === 0x80) at--
  return at
}
