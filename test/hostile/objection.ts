/** Which errors a caller may get. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DiffusionError } from '../../lib/index.js'
import { packageRoot } from '../../lib/package-root.js'
import { OwnError } from './hostile-values.js'

/** Words of V8's and Node's own errors: a check is missing. */
const internal =
  /^Cannot (read|set|convert|destructure|perform|mix|define|delete)|is not (a function|iterable|a constructor|defined)|^Invalid (array|typed array|array buffer|string) length|^The "|out of memory|^offset is|^Reduce of|detached ArrayBuffer|call stack/i

const documented = new Set(
  [...readFileSync(join(packageRoot(), 'docs', 'errors.md'), 'utf8').matchAll(/^###.*$/gm)].flatMap(
    ([line]) => [...line.matchAll(/`(\w+)`/g)].map(([, code]) => code),
  ),
)

/** Why an error should not have been thrown; undefined if it may be. */
export function objection(error: unknown): string | undefined {
  if (error instanceof OwnError) return undefined
  if (!(error instanceof Error)) return 'no error'
  if (error.name === 'AbortError') return undefined
  const { message } = error
  if (error instanceof DiffusionError) {
    if (!documented.has(error.code)) return `code ${error.code} is not documented`
  } else if (error.name !== 'TypeError' && error.name !== 'RangeError') {
    return `an error of class ${error.name}`
  } else if (internal.test(message)) {
    return 'an internal error'
  }
  if (message.length > 1500) return `a message of ${message.length} characters`
  if (/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e]/.test(message)) return 'control characters'
  return undefined
}

/** An error in one line, with the place in lib/ that threw it. */
export function describe(error: unknown): string {
  const text = error instanceof Error ? `${error.name}: ${error.message}` : typeof error
  const at =
    error instanceof Error ? (error.stack?.split('\n').find((line) => line.includes('/lib/')) ?? '') : ''
  return `${text.slice(0, 300)} ${at.trim()}`
}
