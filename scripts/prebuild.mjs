/**
 * `npm run prebuild:all`: the addons in prebuilds/, as they are published, built on Linux or macOS with zig's compiler;
 * `npm run prebuild:all -- NAME…` builds for some platforms (scripts/platforms.mjs), or `cuda`, the kernels for GPUs, which are the
 * same on all of them (scripts/build-cuda.mjs). The files are stripped; prebuilds of the
 * same sources are equal byte for byte. Those with symbols are kept in build/symbols, and the checksums of all in
 * prebuilds/SHA256SUMS. (A script `prebuild` would be run by npm before each `build`.)
 *
 * With `--verify`, nothing in prebuilds/ changes: the sources are copied to another folder and built there, without a cache
 * of compilers' results, and what comes out has to be what is in prebuilds/.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { jobs, root } from './build-addon.mjs'
import { findZig, ownPlatform, platforms, zigTools } from './platforms.mjs'
import { signMachO } from './sign-macho.mjs'
import { stripMachO } from './strip-macho.mjs'
import { withoutLoader } from './without-loader.mjs'

const prebuilds = join(root, 'prebuilds')
const symbols = join(root, 'build', 'symbols')

function cmake(args) {
  const { status, stdout, stderr, error } = spawnSync('cmake', args, {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  })
  if (error) throw new Error(`cmake: ${error.message}`)
  if (status !== 0) throw new Error(`cmake ${args.join(' ')} failed:\n${(stdout + stderr).slice(-8000)}`)
  const warnings = (stdout + stderr).split('\n').filter((line) => /\bwarning:/.test(line))
  if (warnings.length) throw new Error(`warnings:\n${[...new Set(warnings)].join('\n')}`)
}

function compilerFlags(system) {
  return [
    '-g1',
    // Files do not depend on the folder that they were built in.
    `-ffile-prefix-map=${root}=/node-diffusion`,
    // Nothing asks for types at run time; the names of all lambdas are a twentieth of the addon. Exceptions keep theirs.
    '-fno-rtti',
    // Functions as values without a table of virtual functions for each: all of libc++ that is in the addon is compiled with it.
    '-D_LIBCPP_ABI_OPTIMIZED_FUNCTION',
    // Functions that nothing calls are left out. macOS does that without sections, and wants frame pointers: without them,
    // its compact tables for exceptions do not suffice, and an eighth of the addon is what stands in for them.
    ...(system === 'Darwin'
      ? ['-fno-omit-frame-pointer', '-femit-dwarf-unwind=no-compact-unwind']
      : ['-ffunction-sections', '-fdata-sections', '-fomit-frame-pointer']),
  ].join(' ')
}

function linkerFlags(system, strip) {
  // A Mach-O file is stripped afterwards, and its signature needs a load command more.
  if (system === 'Darwin') return '-Wl,-dead_strip -Wl,-headerpad,0x80'
  return `${strip ? '-s ' : ''}-Wl,--gc-sections`
}

/** Builds one platform's target: the folder that it is in. */
export function buildWithZig(
  zig,
  name,
  { target = 'node_diffusion', strip = true, options = [], folder: kind = 'cmake' } = {},
) {
  const { system, cuda } = platforms[name]
  const folder = join(root, 'build', 'prebuilds', name, kind)
  cmake([
    ...['-S', root, '-B', folder, '-DCMAKE_BUILD_TYPE=Release', '-DND_ADDON=ON', ...options],
    `-DCMAKE_TOOLCHAIN_FILE=${join(root, 'cmake', 'toolchain-zig.cmake')}`,
    `-DND_ZIG_TOOLS=${zigTools(zig, name)}`,
    `-DND_ZIG_SYSTEM=${system[0]}`,
    `-DND_ZIG_PROCESSOR=${system[1]}`,
    `-DND_CUDA_BACKEND=${cuda ? 'ON' : 'OFF'}`,
    `-DCMAKE_CXX_FLAGS=${compilerFlags(system[0])}`,
    `-DCMAKE_SHARED_LINKER_FLAGS=${linkerFlags(system[0], strip)}`,
  ])
  cmake(['--build', folder, '--parallel', jobs, '--target', target])
  return folder
}

/**
 * Builds one platform's addon: as it is published, and the files with its symbols, by name.
 */
function build(zig, name) {
  const output = 'node_diffusion.node'
  const { system } = platforms[name]
  if (system[0] === 'Darwin') {
    const { stripped, whole } = stripMachO(readFileSync(join(buildWithZig(zig, name), output)))
    return { addon: signMachO(stripped, 'node-diffusion'), symbols: { [output]: whole } }
  }
  // The same objects, linked twice.
  const stripped = readFileSync(join(buildWithZig(zig, name), output))
  const folder = buildWithZig(zig, name, { strip: false })
  const kept = [output, 'node_diffusion.pdb'].filter((file) => existsSync(join(folder, file)))
  return {
    addon: system[0] === 'Linux' ? withoutLoader(stripped) : stripped,
    symbols: Object.fromEntries(kept.map((file) => [file, readFileSync(join(folder, file))])),
  }
}

function prebuild(zig, name) {
  const began = performance.now()
  const file = join(prebuilds, platforms[name].file)
  mkdirSync(dirname(file), { recursive: true })
  const { addon, symbols: named } = build(zig, name)
  writeFileSync(file, addon, { mode: 0o755 })
  const kept = join(symbols, name)
  rmSync(kept, { recursive: true, force: true })
  mkdirSync(kept, { recursive: true })
  for (const [output, bytes] of Object.entries(named)) writeFileSync(join(kept, output), bytes)
  console.log(`${file}: ${addon.length} bytes, ${((performance.now() - began) / 1000).toFixed(0)} s`)
}

/** A prebuild that falls back to the reference kernels would still compute, 300 times slower: load it and look. */
function check(file) {
  const { kernel, kernels } = createRequire(import.meta.url)(file).cpu()
  if (kernel === 'ref') throw new Error(`${file} has chosen the reference kernels`)
  console.log(`${file} loads: kernels ${kernels.join(', ')}`)
}

/** What the prebuilds are made from. */
const sources = ['CMakeLists.txt', 'cmake', 'cpp', 'binding', 'scripts', 'package.json']

/** Builds platforms in a folder of its own, and compares. */
function verify(zig, names) {
  const folder = mkdtempSync(join(tmpdir(), 'another-folder-'))
  try {
    for (const source of sources) cpSync(join(root, source), join(folder, source), { recursive: true })
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'))
    const env = { ...process.env, ND_ZIG: zig }
    for (const name of Object.keys(env)) if (/^CMAKE_C(XX)?_COMPILER_LAUNCHER$/.test(name)) delete env[name]
    const different = []
    for (const name of names) {
      const { file } = platforms[name]
      const kept = readFileSync(join(prebuilds, file))
      const { status } = spawnSync(process.execPath, [join(folder, 'scripts', 'prebuild.mjs'), name], {
        env,
        stdio: ['ignore', 'ignore', 'inherit'],
      })
      if (status !== 0) throw new Error(`${name} could not be built in ${folder}`)
      const same = kept.equals(readFileSync(join(folder, 'prebuilds', file)))
      console.log(`${file}: ${same ? 'the same bytes from another folder' : 'DIFFERENT from another folder'}`)
      if (!same) different.push(name)
    }
    if (different.length) throw new Error(`Prebuilds that differ: ${different.join(', ')}`)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function buildKernels() {
  const args = [join(root, 'scripts', 'build-cuda.mjs'), '--install', '--out', join(prebuilds, 'cuda')]
  if (spawnSync(process.execPath, args, { stdio: 'inherit' }).status !== 0)
    throw new Error('The kernels for GPUs could not be built')
}

function writeChecksums() {
  const cuda = join(prebuilds, 'cuda')
  const lines = Object.values(platforms)
    .map(({ file }) => file)
    .filter((file) => existsSync(join(prebuilds, file)))
    .concat(existsSync(cuda) ? readdirSync(cuda).map((name) => `cuda/${name}`) : [])
    .sort()
    .map(
      (file) =>
        `${createHash('sha256')
          .update(readFileSync(join(prebuilds, file)))
          .digest('hex')}  ${file}\n`,
    )
  writeFileSync(join(prebuilds, 'SHA256SUMS'), lines.join(''))
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const known = [...Object.keys(platforms), 'cuda']
  const args = process.argv.slice(2)
  const given = args.filter((arg) => arg !== '--verify')
  const names = given.length > 0 ? given : known
  const addons = names.filter((name) => name in platforms)
  try {
    const unknown = names.find((name) => !known.includes(name))
    if (unknown) throw new Error(`${unknown}: expected some of ${known.join(', ')}`)
    if (args.includes('--verify')) verify(findZig(), addons)
    else {
      if (names.includes('cuda')) buildKernels()
      for (const name of addons) prebuild(findZig(), name)
      if (names.includes(ownPlatform)) check(join(prebuilds, platforms[ownPlatform].file))
      writeChecksums()
    }
  } catch (error) {
    console.error(error.message)
    process.exitCode = 1
  }
}
