/**
 * `npm run build`: TypeScript to dist/, and the command made executable (npm does that only when it packs). dist/index.js is
 * an ES module, and dist/index.cjs the same module for `require()`.
 */
import { spawnSync } from 'node:child_process'
import { chmodSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const dist = join(root, 'dist')
const require = createRequire(join(root, 'package.json'))
const tsc = join(dirname(require.resolve('typescript/package.json')), 'bin', 'tsc')

rmSync(dist, { recursive: true, force: true })
const { status } = spawnSync(process.execPath, [tsc, '-p', root], { cwd: root, stdio: 'inherit' })
if (status !== 0) process.exit(status ?? 1)
chmodSync(join(dist, 'cli', 'main.js'), 0o755)

// A list of names, because tools that read the file do not see what another module exports.
const names = Object.keys(await import(pathToFileURL(join(dist, 'index.js')).href)).sort()
writeFileSync(
  join(dist, 'index.cjs'),
  `'use strict'
const api = require('./index.js')
${names.map((name) => `exports.${name} = api.${name}\n`).join('')}`,
)
