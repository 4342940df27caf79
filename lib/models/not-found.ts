import { quote } from '../quote.js'
import { readdir } from 'node:fs/promises'
import { basename, dirname, resolve } from 'node:path'
import { DiffusionError } from '../errors.js'

/** An error for a path that does not exist. Its message suggests similar names in the folder. */
export async function notFound(path: string): Promise<DiffusionError> {
  const full = resolve(path)
  const folder = dirname(full)
  // As people write a model on the Hub.
  const hub = /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*$/.test(path)
    ? `; on the Hugging Face Hub, it is hf:${path}`
    : ''
  const message = `${path}: no such file or folder${hub}`
  let names: string[]
  try {
    names = await readdir(folder)
  } catch {
    return new DiffusionError('MODEL_NOT_FOUND', `${message} (there is no folder ${folder} either)`)
  }
  const wanted = basename(full)
  if (names.includes(wanted))
    return new DiffusionError('MODEL_NOT_FOUND', `${path}: a link whose target does not exist`)
  const close = names
    .filter((name) => !name.startsWith('.'))
    .map((name) => ({ name, distance: distance(wanted.toLowerCase(), name.toLowerCase()) }))
    .filter(
      ({ name, distance }) => distance <= Math.max(2, Math.floor(Math.min(name.length, wanted.length) / 3)),
    )
    .sort((a, b) => a.distance - b.distance)
    .slice(0, 3)
  if (close.length > 0) {
    const list = close.map(({ name }) => quote(name)).join(', ')
    return new DiffusionError('MODEL_NOT_FOUND', `${message}; did you mean ${list}?`)
  }
  const models = names.filter((name) => /\.(safetensors|gguf|ckpt|pth?|bin)$/.test(name)).slice(0, 5)
  const there = models.length > 0 ? `; ${folder} holds ${models.map((name) => quote(name)).join(', ')}` : ''
  return new DiffusionError('MODEL_NOT_FOUND', message + there)
}

/** Levenshtein distance: insertions, deletions and replacements that turn a into b. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)))
    }
    row = next
  }
  return row[b.length]
}
