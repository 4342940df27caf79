import { Buffer, isUtf8 } from 'node:buffer'
import type { ParseOptions } from './json-parser.js'

/**
 * Short JSON texts by `JSON.parse`, which is much faster than parsing in steps as long as that code has just been loaded.
 * It took a seventh of the time from the start of a process to a loaded model.
 */

/** Bytes. `JSON.parse` and the copy take a few milliseconds for as many. */
export const SHORT_JSON = 128 << 10
/** Limits of the parser in steps, which refuses what exceeds them. */
const MAX_DEPTH = 64
/** Bytes; half of that limit, which counts escape sequences as they are written. */
const MAX_KEY = 2 << 10
const LONG_NUMBER = /[\d.eE+-]{400}/

/** The colons of what was copied: one for each key, and those within strings. */
interface Count {
  colons: number
}

/** A limit is exceeded. */
class Refused extends Error {}

/**
 * Parses `bytes` as {@link parseInSteps} does, objects without prototypes. Undefined where the text is long, or where that
 * function may refuse it: it then says why.
 */
export function parseShort(bytes: Buffer, options: ParseOptions): { value: unknown } | undefined {
  if (bytes.length > SHORT_JSON || !isUtf8(bytes)) return undefined
  const text = bytes.toString('utf8')
  if (LONG_NUMBER.test(text)) return undefined
  let value: unknown
  const count = { colons: 0 }
  try {
    value = copy(JSON.parse(text), count, 0)
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof Refused) return undefined
    throw error
  }
  // JSON.parse keeps the last of equal keys without a word, and the text then has more colons than the copy. Escaped ones
  // would make up for that.
  if (options.unique && (text.includes('\\u003') || text.split(':').length - 1 !== count.colons))
    return undefined
  const { onField } = options
  if (!onField || !isObject(value)) return { value }
  for (const key in value) onField(key, value[key])
  return { value: Object.create(null) }
}

function copy(value: unknown, count: Count, depth: number): unknown {
  if (typeof value === 'string') {
    count.colons += colonsIn(value)
    return value
  }
  if (typeof value !== 'object' || value === null) return value
  if (depth === MAX_DEPTH) throw new Refused()
  if (Array.isArray(value)) return value.map((entry) => copy(entry, count, depth + 1))
  const result = Object.create(null) as Record<string, unknown>
  for (const [key, entry] of Object.entries(value)) {
    if (Buffer.byteLength(key) > MAX_KEY) throw new Refused()
    count.colons += 1 + colonsIn(key)
    result[key] = copy(entry, count, depth + 1)
  }
  return result
}

function colonsIn(text: string): number {
  return text.includes(':') ? text.split(':').length - 1 : 0
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
