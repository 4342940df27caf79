#!/usr/bin/env node
/**
 * Builds the addon with CMake: build/Release/node_diffusion.node, its objects in build/cmake. Nothing is downloaded: the
 * headers of Node-API are in node_modules of a checkout and in headers/ of the published package.
 */
import { spawnSync } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

export const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
export const objects = join(root, 'build', 'cmake')
/** Compilers at once. */
export const jobs = process.env.JOBS ?? String(availableParallelism())

/** Whether the emulator of a GPU is written for this platform. */
const emulator = process.platform === 'linux' && ['x64', 'arm64'].includes(process.arch)

/** The native tests as programs with arguments; those of the CUDA backend run its kernels on the emulator. */
export const testPrograms = [
  ['engine-tests'],
  ...(emulator
    ? [
        ['engine-tests', '--device', 'emulated'],
        ['cuda-tests-checked', '--device', 'emulated'],
      ]
    : []),
]

/** Libraries that the TypeScript tests load. */
export const testLibraries =
  process.platform === 'linux' ? ['failing-preload', ...(emulator ? ['cuda-emulated-driver'] : [])] : []

/** Something the user has to install or to look into; the message says what. */
export class BuildError extends Error {}

const installHint = {
  darwin: '  xcode-select --install && brew install cmake',
  win32: '  Visual Studio 2022 with "Desktop development with C++", "C++ Clang tools" and CMake',
  linux: `  Debian, Ubuntu:  sudo apt-get install cmake g++ make
  Fedora, RHEL:    sudo dnf install cmake gcc-c++ make
  Alpine:          apk add cmake g++ make linux-headers`,
}[process.platform]

// Visual Studio's own compiler does not compile the kernels; its Clang does.
const generator =
  process.platform === 'win32' && !process.env.CMAKE_GENERATOR
    ? ['-T', 'ClangCL', '-A', process.arch === 'arm64' ? 'ARM64' : 'x64']
    : []

function cmake(...args) {
  const { status, error } = spawnSync('cmake', args, { cwd: root, stdio: 'inherit' })
  if (error?.code === 'ENOENT') throw new BuildError('cmake was not found.')
  if (error) throw new BuildError(`cmake: ${error.message}`)
  if (status !== 0) throw new BuildError(`\`cmake ${args[0]}\` failed (status ${status}).`)
}

/**
 * Configures and builds targets of CMakeLists.txt; a second call compiles only what has changed. `options` are CMake's, such
 * as -DCMAKE_CXX_FLAGS=-march=native.
 */
export function buildAddon(targets = ['node_diffusion'], options = []) {
  const output = join(root, 'build', 'Release')
  try {
    cmake(
      ...['-S', root, '-B', objects, ...generator, '-DCMAKE_BUILD_TYPE=Release', '-DND_ADDON=ON'],
      `-DCMAKE_LIBRARY_OUTPUT_DIRECTORY=${output}`,
      ...(targets.some((target) => target !== 'node_diffusion') ? ['-DND_TESTS=ON'] : []),
      ...options,
    )
    cmake('--build', objects, '--config', 'Release', '--parallel', jobs, '--target', ...targets)
  } catch (error) {
    if (!(error instanceof BuildError)) throw error
    throw new BuildError(`node-diffusion could not build its native addon: ${error.message}

Possible solutions:
- Install CMake (3.18 or newer) and a C++17 compiler, then try again:
${installHint ?? '  see your system’s documentation'}
- Read the compiler's messages above; remove ${objects} and try again.
- Not this platform's fault? https://github.com/node-diffusion/node-diffusion/issues`)
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    buildAddon(['node_diffusion'], process.argv.slice(2))
  } catch (error) {
    console.error(error instanceof BuildError ? error.message : error)
    process.exit(1)
  }
}
