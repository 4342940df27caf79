/** `--write` formats TypeScript and C++, `--check` only looks. clang-format is asked where the machine has one. */
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { existsSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { root } from './build-addon.mjs'

const write = process.argv.includes('--write')
const require = createRequire(join(root, 'package.json'))

function files(folders, pattern) {
  return folders
    .filter((folder) => existsSync(join(root, folder)))
    .flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: true }).map((name) => join(folder, name)),
    )
    .filter((name) => pattern.test(name) && !name.includes('fixtures'))
}

function run(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit' })
  if (error) throw error
  return status === 0
}

const prettier = join(dirname(require.resolve('prettier/package.json')), 'bin', 'prettier.cjs')
const scripts = files(['lib', 'test', 'scripts', 'bench', 'examples'], /\.(ts|mjs)$/)
let ok = run(process.execPath, [prettier, write ? '--write' : '--check', '--log-level=warn', ...scripts])

if (spawnSync('clang-format', ['--version']).status === 0) {
  const sources = files(['cpp', 'binding', 'test/cpp', 'test/cuda', 'bench/kernels', 'bench/cuda'], /\.(cpp|h|cu)$/)
  ok = run('clang-format', [...(write ? ['-i'] : ['--dry-run', '--Werror']), ...sources]) && ok
} else {
  console.warn('clang-format is not installed: C++ was left out')
}
process.exit(ok ? 0 : 1)
