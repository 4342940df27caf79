/**
 * `npm run build`: TypeScript to dist/, and the command made executable (npm does that only when it packs). dist/index.js is
 * an ES module, and dist/index.cjs the same module for `require()`. Also CLIP's vocabulary to models/clip.
 *
 * The modules of lib/ are joined into a few files, because Node takes about half a millisecond to find, read and compile
 * each: importing 173 of them took 75 ms of CPU time, importing the joined ones takes 28 ms.
 */
import { spawnSync } from 'node:child_process'
import { chmodSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { rollup } from 'rollup'
import { beginBuild } from './built.mjs'
import { writeClipMerges } from './clip-merges.mjs'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const dist = join(root, 'dist')
const require = createRequire(join(root, 'package.json'))
const tsc = join(dirname(require.resolve('typescript/package.json')), 'bin', 'tsc')

const endBuild = beginBuild()
const modules = join(root, 'build', 'modules')
for (const folder of [dist, modules]) rmSync(folder, { recursive: true, force: true })
const { status } = spawnSync(
  process.execPath,
  [tsc, '-p', root, '--outDir', modules, '--declarationDir', dist],
  { cwd: root, stdio: 'inherit' },
)
if (status !== 0) process.exit(status ?? 1)

const bundle = await rollup({
  // The last two are for the benchmarks and tools of the checkout.
  input: Object.fromEntries(
    ['index', 'cli/main', 'native', 'models/index'].map((name) => [name, join(modules, `${name}.js`)]),
  ),
  external: (id) => !/^[./]|^[a-zA-Z]:[\\/]/.test(id),
  onwarn: (warning) => {
    throw new Error(warning.message)
  },
})
// Files that look for others relative to themselves (load-addon.ts, package-root.ts) stay in the outermost folder.
await bundle.write({ dir: dist, format: 'es', chunkFileNames: '[name].js', minifyInternalExports: false })
await bundle.close()
chmodSync(join(dist, 'cli', 'main.js'), 0o755)

writeClipMerges(root)

// A list of names, because tools that read the file do not see what another module exports.
const names = Object.keys(await import(pathToFileURL(join(dist, 'index.js')).href)).sort()
writeFileSync(
  join(dist, 'index.cjs'),
  `'use strict'
const api = require('./index.js')
${names.map((name) => `exports.${name} = api.${name}\n`).join('')}`,
)

endBuild()
