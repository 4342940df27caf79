import { DiffusionError } from '../errors.js'

/** Text from a file, safe and short enough to print: quoted, control characters escaped. */
export function quote(text: string, limit = 120): string {
  const short = text.length > limit ? `${text.slice(0, limit)}…` : text
  // JSON leaves DEL, C1 controls and bidirectional overrides alone; a terminal does not.
  return JSON.stringify(short).replace(
    /[\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/** Any value from a file, safe and short enough to print. */
export function show(value: unknown): string {
  if (typeof value === 'string') return quote(value, 60)
  if (typeof value === 'bigint') return value.toString()
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 80 ? `${text.slice(0, 80)}…` : text
}

/** The file breaks its format's rules, or lacks something that it must have. */
export function badFormat(path: string, message: string, cause?: unknown): DiffusionError {
  return new DiffusionError('MODEL_FORMAT', `${path}: ${message}`, cause === undefined ? undefined : { cause })
}

/** A sound file of a model that this engine cannot run. */
export function unsupported(path: string, message: string): DiffusionError {
  return new DiffusionError('UNSUPPORTED_MODEL', `${path}: ${message}`)
}
