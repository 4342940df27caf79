/**
 * `npm run tidy -- FILTER…`: clang-tidy, as .clang-tidy has it, over the compile database of the debug preset. FILTERs are
 * parts of file names. A file that passed is checked again only after it, something that it includes, its flags,
 * .clang-tidy or clang-tidy itself has changed; `--no-cache` checks all.
 */
import { execFile, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { jobs, root } from './build-addon.mjs'
import { includeClosures, sourceFiles } from './includes.mjs'

const database = join(root, 'build', 'debug')
/** Outside the checkout, so that fresh clones share it. */
const cacheFile = join(
  process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'node-diffusion', 'clang-tidy.json',
) // prettier-ignore

function output(command, args) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd: root, encoding: 'utf8' })
  if (error?.code === 'ENOENT') throw new Error(`${command} is not installed`)
  if (error) throw error
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed:\n${stdout}${stderr}`)
  return stdout
}

function readCache() {
  try {
    return new Set(JSON.parse(readFileSync(cacheFile, 'utf8')))
  } catch {
    return new Set()
  }
}

function writeCache(keys) {
  mkdirSync(dirname(cacheFile), { recursive: true })
  const temporary = `${cacheFile}.${process.pid}`
  writeFileSync(temporary, JSON.stringify([...keys]))
  renameSync(temporary, cacheFile)
}

const folders = ['cpp', 'binding', 'test/cpp', 'test/cuda', 'bench/kernels', 'bench/cuda']
/** The emulator of a GPU has CUDA's reserved names, and _Float16, which older versions of Clang do not have. */
const emulator = 'test/cuda/emulator/'

/** What of the database is checked: not the kernels of one instruction set, which are intrinsics in textual includes, and not
 * kernels for GPUs, which are written for another compiler. */
function units(filters) {
  const closures = includeClosures(root, sourceFiles(root, folders))
  return JSON.parse(readFileSync(join(database, 'compile_commands.json'), 'utf8'))
    .map(({ file, command }) => ({ name: relative(root, file).replaceAll('\\', '/'), command }))
    .map((unit) => ({ ...unit, includes: closures.get(unit.name) }))
    .filter(({ name }) => !name.startsWith(emulator))
    .filter(({ includes }) => includes && !includes.some((file) => /[.]inc[.]h$|[.]cu$/.test(file)))
    .filter(({ name }) => filters.length === 0 || filters.some((filter) => name.includes(filter)))
}

const args = process.argv.slice(2)
const filters = args.filter((arg) => arg !== '--no-cache')
const passedBefore = args.includes('--no-cache') ? new Set() : readCache()
const version = output('clang-tidy', ['--version'])
output('cmake', ['--preset', 'debug'])
const all = units(filters)
if (all.length === 0)
  throw new Error(`No file of the compile database has ${filters.join(' or ')} in its name`)

/** What clang-tidy is told for a file: the settings of its folders. */
function settingsOf(name) {
  const folders = name.split('/').map((_, i, parts) => join(root, ...parts.slice(0, i)))
  const files = folders.map((folder) => join(folder, '.clang-tidy')).filter((file) => existsSync(file))
  return files.map((file) => readFileSync(file, 'utf8')).join('')
}

const contents = new Map()
for (const unit of all) {
  const hash = createHash('sha256')
    .update(version)
    .update(settingsOf(unit.name))
    .update(unit.command.replace(/^\S*ccache /, '').replaceAll(root, ''))
  for (const file of unit.includes) {
    if (!contents.has(file)) contents.set(file, readFileSync(join(root, file)))
    hash.update(file).update(contents.get(file))
  }
  unit.key = hash.digest('hex')
}

const began = performance.now()
const waiting = all.filter(({ key }) => !passedBefore.has(key))
const checked = waiting.length
const passed = new Set()
const shown = new Set()
let failed = 0

async function worker() {
  for (let unit = waiting.shift(); unit; unit = waiting.shift()) {
    const found = await new Promise((resolve) => {
      execFile(
        'clang-tidy',
        ['-p', database, '--quiet', join(root, unit.name)],
        { cwd: root, maxBuffer: 1 << 26 },
        (error, stdout, stderr) => resolve(error ? stdout || stderr || error.message : ''),
      )
    })
    if (found === '') {
      passed.add(unit.key)
    } else {
      failed++
      // What is found in a header comes with every file that includes it.
      const findings = found.replaceAll(`${root}/`, '').split(/^(?=\S+:\d+:\d+: (?:error|warning): )/m)
      for (const finding of findings.filter((text) => !shown.has(text))) {
        shown.add(finding)
        process.stdout.write(finding)
      }
    }
  }
}

await Promise.all(Array.from({ length: Math.max(1, Number(jobs)) }, worker))
// A cache of the last few hundred passes: this tree's, and those of other branches.
writeCache(
  [
    ...new Set([
      ...passed,
      ...all.map(({ key }) => key).filter((key) => passedBefore.has(key)),
      ...readCache(),
    ]),
  ].slice(0, 1000),
)
const seconds = ((performance.now() - began) / 1000).toFixed(0)
console.log(
  `${all.length} files: ${all.length - checked} unchanged since they passed, ${checked} checked in ${seconds} s, ${failed} with findings`,
)
process.exitCode = failed > 0 ? 1 : 0
