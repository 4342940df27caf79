/**
 * `npm run format` formats TypeScript, JavaScript, C++ and Python; `npm run format:check` only looks. A language whose
 * formatter this machine lacks is left out with a warning; in CI that is a failure.
 */
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { root } from './build-addon.mjs'

const write = process.argv.includes('--write')
const require = createRequire(join(root, 'package.json'))
let ok = true

function run(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit' })
  if (error) throw error
  if (status !== 0) ok = false
}

function versionOf(command) {
  return spawnSync(command, ['--version'], { encoding: 'utf8' }).stdout?.trim()
}

function leaveOut(language, why) {
  console.warn(`${language} was left out: ${why}`)
  if (process.env.CI) ok = false
}

/** Files below folders whose name fits; the root's own as well where '.' is a folder. */
function files(folders, pattern) {
  return folders
    .flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: folder !== '.' }).map((name) => join(folder, name)),
    )
    .filter((name) => pattern.test(name) && !/node_modules|test.fixtures/.test(name))
}

const prettier = join(dirname(require.resolve('prettier/package.json')), 'bin', 'prettier.cjs')
const scripts = files(['.', 'lib', 'test', 'scripts', 'bench', 'examples', 'tools'], /\.(ts|mjs)$/)
run(process.execPath, [prettier, write ? '--write' : '--check', '--log-level=warn', ...scripts])

if (versionOf('clang-format')) {
  const sources = files(
    ['cpp', 'binding', 'test/cpp', 'test/cuda', 'bench/kernels', 'bench/cuda'],
    /\.(cpp|h|cu)$/,
  )
  run('clang-format', [...(write ? ['-i'] : ['--dry-run', '--Werror']), ...sources])
} else {
  leaveOut('C++', 'clang-format is not installed')
}

const [pinned, version] = /^ruff==(.*)$/m.exec(
  readFileSync(join(root, 'tools', 'requirements-dev.txt'), 'utf8'),
)
const ruff = [join(root, 'build', 'python', 'bin', 'ruff'), 'ruff'].find(
  (command) => versionOf(command) === `ruff ${version}`,
)
if (ruff) {
  run(ruff, ['format', ...(write ? [] : ['--check', '--output-format=concise']), '--quiet', 'tools'])
  run(ruff, ['check', '--quiet', 'tools'])
} else {
  const hint = 'pip install --target build/python -r tools/requirements-dev.txt'
  leaveOut('Python', `${pinned} is not installed (${hint})`)
}
process.exit(ok ? 0 : 1)
