#!/usr/bin/env node
/**
 * Builds the addon with cmake-js: build/Release/node_diffusion.node, its objects in build/cmake.
 *
 * Nothing is downloaded: `binary.napi_versions` in package.json tells cmake-js that this is a Node-API addon, and it then
 * takes the headers of the registry's node-api-headers, which fit every Node version. `configure` and `build` rather
 * than `compile`: after a compiler's error, `compile` deletes all objects and starts over.
 */
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

export const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
export const objects = join(root, 'build', 'cmake')
/** Compilers at once. */
export const jobs = process.env.JOBS ?? String(availableParallelism())
const require = createRequire(join(root, 'package.json'))

/** Native test programs; the CUDA backend's run its kernels on an emulator, which is written for x86-64. */
export const testPrograms =
  process.platform === 'linux' && process.arch === 'x64'
    ? ['engine-tests', 'cuda-tests', 'cuda-tests-checked']
    : ['engine-tests']

/** Libraries that the TypeScript tests load. */
export const testLibraries =
  process.platform === 'linux' && process.arch === 'x64' ? ['cuda-emulated-driver'] : []

/** Something the user has to install or to look into; the message says what. */
export class BuildError extends Error {}

const installHint = {
  darwin: '  xcode-select --install && brew install cmake',
  win32: '  Windows is not supported yet: use WSL',
  linux: `  Debian, Ubuntu:  sudo apt-get install cmake g++ make
  Fedora, RHEL:    sudo dnf install cmake gcc-c++ make
  Alpine:          apk add cmake g++ make linux-headers`,
}[process.platform]

/** cmake-js reports a missing CMake as well, but buries it in other output. */
function requireCMake() {
  const { error } = spawnSync('cmake', ['--version'], { stdio: 'ignore' })
  if (error?.code === 'ENOENT') throw new BuildError('cmake was not found.')
  if (error) throw new BuildError(`cmake: ${error.message}`)
}

function cmakeJs(command, ...args) {
  let manifest
  try {
    manifest = require.resolve('cmake-js/package.json')
  } catch {
    throw new BuildError('the npm package cmake-js was not found.')
  }
  const program = join(dirname(manifest), require(manifest).bin['cmake-js'])
  const places = ['--directory', root, '--out', objects]
  const { status, error } = spawnSync(
    process.execPath,
    [program, command, ...places, '--prefer-make', '--log-level', 'warn', ...args],
    // The root, because cmake-js writes the place of node-addon-api relative to the working directory.
    { cwd: root, stdio: 'inherit' },
  )
  if (error) throw new BuildError(`cmake-js: ${error.message}`)
  if (status !== 0) throw new BuildError(`\`cmake-js ${command}\` failed (status ${status}).`)
}

/** Configures and builds targets of CMakeLists.txt; a second call compiles only what has changed. */
export function buildAddon(targets = ['node_diffusion']) {
  try {
    requireCMake()
    cmakeJs(
      'configure',
      `--CDCMAKE_LIBRARY_OUTPUT_DIRECTORY=${join(root, 'build', 'Release')}`,
      ...(targets.some((target) => target !== 'node_diffusion') ? ['--CDND_TESTS=ON'] : []),
    )
    for (const target of targets) cmakeJs('build', '--target', target, '--parallel', jobs)
  } catch (error) {
    if (!(error instanceof BuildError)) throw error
    throw new BuildError(`node-diffusion could not build its native addon: ${error.message}

Possible solutions:
- Install CMake (3.18 or newer) and a C++17 compiler, then \`npm rebuild node-diffusion\`:
${installHint ?? '  see your system’s documentation'}
- Read the compiler's messages above; remove ${objects} and try again.
- Not this platform's fault? https://github.com/node-diffusion/node-diffusion/issues`)
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    buildAddon()
  } catch (error) {
    console.error(error instanceof BuildError ? error.message : error)
    process.exit(1)
  }
}
