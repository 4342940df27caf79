/**
 * `npm run test:ts -- FILE…`: builds what has changed, the addon included, and runs these test files or folders, named as
 * they stand in the tree: test/pipeline/generate.test.ts. Without any, all. `--without FOLDER` leaves out what is below it,
 * `--no-build` runs what is built already.
 */
import { existsSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { buildAddon, BuildError, root, testLibraries } from './build-addon.mjs'
import { run } from './run.mjs'
import { reportLeft, withTemporaryFolder } from './temporary.mjs'

// Tests expect the CPU's results, whatever GPU the machine has; those of devices name their own driver.
process.env.NODE_DIFFUSION_CUDA_DRIVER ??= 'none'

const require = createRequire(join(root, 'package.json'))
const compiled = join(root, 'build', 'ts')
const program = (name, bin) => join(dirname(require.resolve(`${name}/package.json`)), bin)

/** A mistake in the command line. */
class UsageError extends Error {}

/** Test files as the tree has them, relative to the root. */
function expand(name) {
  const path = resolve(root, name)
  const names = /\.test\.ts$/.test(path)
    ? ['']
    : existsSync(path)
      ? readdirSync(path, { recursive: true })
      : []
  const files = names.map((inside) => join(path, inside)).filter((file) => /\.test\.ts$/.test(file))
  if (files.length === 0 || !files.every((file) => existsSync(file)))
    throw new UsageError(
      `${name}: expected a file like test/pipeline/generate.test.ts, or a folder with such files`,
    )
  return files.map((file) => relative(root, file))
}

/** Compiles the tests; tsc's build information makes that quick where little has changed. */
async function compile() {
  const { status } = await run(process.execPath, [program('typescript', 'bin/tsc'), '-p', 'test'])
  if (status !== 0) throw new BuildError('The tests could not be compiled.')
  // Compiled tests of files that have since gone would run on.
  for (const name of readdirSync(join(compiled, 'test'), { recursive: true }))
    if (name.endsWith('.test.js') && !existsSync(join(root, 'test', name.replace(/js$/, 'ts'))))
      rmSync(join(compiled, 'test', name))
}

/**
 * What tap keeps of each test file that it has run since then. (With `--output-file`, tap 21 stops in the middle of a large
 * run and says nothing.)
 */
function results(since) {
  const folder = join(root, '.tap', 'test-results')
  if (!existsSync(folder)) return []
  return readdirSync(folder, { recursive: true })
    .map((name) => join(folder, name))
    .filter((name) => name.endsWith('.tap') && statSync(name).mtimeMs >= since)
}

/** Names of the tests in tap's output that checked nothing: a loop over an empty list passes whatever the code does. */
function emptyTests(output) {
  return [...output.matchAll(/^ *1\.\.0\n *(?:not )?ok \d+ - (.*?)(?: #.*)?$/gm)].map(([, name]) => name)
}

/** Runs TypeScript tests; no files: all, without those of a folder if one is given. */
export async function testTs(files = [], { build = true, without } = {}) {
  const named = files.length === 0 && without ? ['test'] : files
  const leftOut = new Set(without ? expand(without) : [])
  const tests = named.flatMap(expand).filter((file) => !leftOut.has(file))
  if (build) {
    buildAddon(['node_diffusion', ...testLibraries])
    await compile()
  }
  const tap = program('tap', require('tap/package.json').bin.tap)
  const scripts = tests.map((file) => join('build', 'ts', file.replace(/ts$/, 'js')))
  const began = Date.now()
  // By itself, tap runs one file at a time on two cores.
  const jobs = `--jobs=${availableParallelism()}`
  const { result, left } = await withTemporaryFolder(() =>
    run(process.execPath, [tap, 'run', '--reporter=terse', jobs, ...scripts]),
  )
  const { status, text } = result
  const empty = results(began).flatMap((file) => emptyTests(readFileSync(file, 'utf8')))
  for (const name of empty) console.error(`Nothing was checked in the test: ${name}`)
  // tap's closing lines hold `# { total: 12, pass: 11, fail: 1, skip: 0 }`.
  const summary = [...text.matchAll(/^# \{ total: .*\}$/gm)].pop()?.[0] ?? ''
  const count = (name) => Number(new RegExp(`\\b${name}: (\\d+)`).exec(summary)?.[1] ?? 0)
  const [passed, failed] = [count('pass'), count('fail') + empty.length + reportLeft(left)]
  return { passed, failed: status !== 0 && failed === 0 ? 1 : failed }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: { 'no-build': { type: 'boolean', default: false }, without: { type: 'string' } },
    })
    const { passed, failed } = await testTs(positionals, {
      build: !values['no-build'],
      without: values.without,
    })
    console.log(`${passed} passed, ${failed} failed`)
    process.exitCode = failed > 0 ? 1 : 0
  } catch (error) {
    console.error(error instanceof BuildError || error instanceof UsageError ? error.message : error)
    process.exitCode = 1
  }
}
