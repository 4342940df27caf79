/**
 * `npm test`: the native tests, then the TypeScript ones, and one line that sums both. Exit status 1 when any failed.
 * Arguments go to tap: `npm test -- build/ts/test/pipeline/generate.test.js`.
 */
import { spawn } from 'node:child_process'
import { createRequire } from 'node:module'
import { readdirSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { BuildError, buildAddon, root, testPrograms } from './build-addon.mjs'

const require = createRequire(join(root, 'package.json'))

/** Runs a command, shows what it prints and returns that with its exit status. */
function run(command, args) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] })
    let text = ''
    child.stdout.on('data', (chunk) => {
      process.stdout.write(chunk)
      text += chunk
    })
    child.on('error', reject)
    child.on('close', (status) => resolve({ status, text }))
  })
}

/** The last `N passed, N failed` that a native test program printed. */
function nativeCounts({ status, text }) {
  const counts = [...text.matchAll(/(\d+) passed, (\d+) failed/g)].pop()
  const [passed, failed] = counts ? [Number(counts[1]), Number(counts[2])] : [0, 0]
  return { passed, failed: status !== 0 && failed === 0 ? 1 : failed }
}

/** tap's closing lines hold `# { total: 12, pass: 11, fail: 1, skip: 0 }`. */
function tapCounts({ status, text }) {
  const summary = [...text.matchAll(/^# \{ total: .*\}$/gm)].pop()?.[0] ?? ''
  const count = (name) => Number(new RegExp(`\\b${name}: (\\d+)`).exec(summary)?.[1] ?? 0)
  const [passed, failed] = [count('pass'), count('fail')]
  return { passed, failed: status !== 0 && failed === 0 ? 1 : failed }
}

try {
  buildAddon({ tests: true })
} catch (error) {
  console.error(error instanceof BuildError ? error.message : error)
  process.exit(1)
}

// Compiled tests of files that have since gone would run on: start clean.
rmSync(join(root, 'build', 'ts'), { recursive: true, force: true })
const tsc = join(dirname(require.resolve('typescript/package.json')), 'bin', 'tsc')
const compiled = await run(process.execPath, [tsc, '-p', 'test'])
if (compiled.status !== 0) process.exit(1)

const filters = process.argv.slice(2)
let native = { passed: 0, failed: 0 }
if (filters.length === 0) {
  const folder = ['build/cmake', 'build/cmake/Release'].find((f) =>
    readdirSync(join(root, f), { withFileTypes: true }).some(
      (e) => e.isFile() && /^engine-tests(\.exe)?$/.test(e.name),
    ),
  )
  for (const program of testPrograms) {
    const { passed, failed } = nativeCounts(await run(join(root, folder, program), []))
    native = { passed: native.passed + passed, failed: native.failed + failed }
  }
}

const tapBin = join(dirname(require.resolve('tap/package.json')), require('tap/package.json').bin.tap)
const tap = tapCounts(await run(process.execPath, [tapBin, 'run', '--reporter=terse', ...filters]))
const passed = native.passed + tap.passed
const failed = native.failed + tap.failed
console.log(`${passed} passed, ${failed} failed`)
process.exit(failed > 0 ? 1 : 0)
