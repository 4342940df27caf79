import { DiffusionError } from '../errors.js'

/** Escapes what moves a terminal's cursor or reverses its text. */
export function printable(text: string): string {
  return text.replace(
    /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/** Text from a file, safe and short enough to print, in quotes. */
export function quote(text: string, limit = 120): string {
  return printable(JSON.stringify(text.length > limit ? `${text.slice(0, limit)}…` : text))
}

/** Any value from a file, safe and short enough to print, however deep and long it is. */
export function show(value: unknown, depth = 2): string {
  if (typeof value === 'string') return quote(value, 60)
  if (typeof value !== 'object' || value === null) return String(value)
  if (depth === 0) return Array.isArray(value) ? '[…]' : '{…}'
  const keys = Object.keys(value)
  const some = keys.slice(0, 8).map((key) => {
    const element = show((value as Record<string, unknown>)[key], depth - 1)
    return Array.isArray(value) ? element : `${quote(key, 30)}:${element}`
  })
  const list = keys.length > some.length ? `${some.join()},…` : some.join()
  return Array.isArray(value) ? `[${list}]` : `{${list}}`
}

/** The file breaks its format's rules, or lacks something that it must have. */
export function badFormat(path: string, message: string, cause?: unknown): DiffusionError {
  return new DiffusionError(
    'MODEL_FORMAT',
    `${path}: ${message}`,
    cause === undefined ? undefined : { cause },
  )
}

/** A sound file of a model that this engine cannot run. */
export function unsupported(path: string, message: string): DiffusionError {
  return new DiffusionError('UNSUPPORTED_MODEL', `${path}: ${message}`)
}
