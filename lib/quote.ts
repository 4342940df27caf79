/** Makes text and values from files and callers safe and short enough for messages. */

/** Maximum number of characters of a quoted text. */
export const MAX_QUOTED = 60

/** Maximum number of elements of a list or object that are shown. */
const MAX_SHOWN = 8

/** Escapes control characters and characters that change the direction of text. */
export function printable(text: string): string {
  return text.replace(
    /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/** Truncates text that is longer than `limit`. */
export function shorten(text: string, limit = MAX_QUOTED): string {
  return text.length > limit ? `${text.slice(0, limit)}…` : text
}

/** Text in quotes, truncated and escaped. */
export function quote(text: string, limit = 120): string {
  return printable(JSON.stringify(shorten(text, limit)))
}

/** A value from a file as JSON, abridged. */
export function show(value: unknown, depth = 2): string {
  if (typeof value === 'string') return quote(value, MAX_QUOTED)
  if (typeof value !== 'object' || value === null) return String(value)
  if (depth === 0) return Array.isArray(value) ? '[…]' : '{…}'
  const some: string[] = []
  // Not with Object.keys(), because there can be millions.
  for (const key in value) {
    if (some.length === MAX_SHOWN) {
      some.push('…')
      break
    }
    const element = show((value as Record<string, unknown>)[key], depth - 1)
    some.push(Array.isArray(value) ? element : `${quote(key, 30)}:${element}`)
  }
  return Array.isArray(value) ? `[${some.join()}]` : `{${some.join()}}`
}

/** A value that a caller passed, with its type: `0 of type number`. Of objects, only the class is named. */
export function received(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return `${quote(value, MAX_QUOTED)} of type string`
    case 'bigint':
      return `${value < 2n ** 128n && value > -(2n ** 128n) ? `${value}n` : 'a huge integer'} of type bigint`
    case 'function':
      return `${functionName(value)} of type function`
    case 'symbol':
      return `${printable(shorten(String(value)))} of type symbol`
    case 'object':
      return value === null ? 'null' : objectReceived(value)
    case 'undefined':
      return 'undefined'
    default:
      return `${String(value)} of type ${typeof value}`
  }
}

function functionName(value: { name: unknown }): string {
  try {
    return printable(shorten(String(value.name))) || 'anonymous'
  } catch {
    return 'anonymous'
  }
}

/** Of arrays the length, of other objects the class. A proxy can refuse to tell either. */
function objectReceived(value: object): string {
  try {
    if (Array.isArray(value)) return `an array of ${value.length}`
    return `an instance of ${printable(shorten(String(value.constructor?.name ?? 'Object')))}`
  } catch {
    return 'an object that cannot be read'
  }
}
