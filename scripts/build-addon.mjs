#!/usr/bin/env node
/**
 * Builds the addon with CMake: build/Release/node_diffusion.node. Headers come from the registry's node-api-headers,
 * so nothing is downloaded; the Node-API is the same for every Node version. `--tests` adds engine-tests.
 *
 * Plain CMake and not cmake-js: a consumer without a prebuild needs no further package to build, and the engine's
 * object files are shared between the addon and its tests.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

export const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const require = createRequire(join(root, 'package.json'))

/** Something the user has to install or to look into; the message says what. */
export class BuildError extends Error {}

const installHint = {
  darwin: '  xcode-select --install && brew install cmake',
  win32:
    '  install CMake (https://cmake.org) and the "Desktop development with C++" workload of Visual Studio',
  linux: `  Debian, Ubuntu:  sudo apt-get install cmake g++ make
  Fedora, RHEL:    sudo dnf install cmake gcc-c++ make
  Alpine:          apk add cmake g++ make linux-headers`,
}[process.platform]

function run(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit' })
  if (error?.code === 'ENOENT') throw new BuildError(`${command} was not found.`)
  if (error) throw new BuildError(`${command}: ${error.message}`)
  if (status !== 0) throw new BuildError(`\`${command} ${args.join(' ')}\` failed (status ${status}).`)
}

/** Where a header package lies: node_modules may be ours or that of the project that installs us. */
function headers(name) {
  const folder = dirname(require.resolve(`${name}/package.json`))
  return name === 'node-api-headers' ? join(folder, 'include') : folder
}

/** Configures and builds; a second call compiles only what has changed. */
export function buildAddon({ tests = false } = {}) {
  const build = join(root, 'build', 'cmake')
  mkdirSync(build, { recursive: true })
  const includes = [headers('node-api-headers'), headers('node-addon-api')].join(';')
  try {
    run('cmake', [
      '-S', root, '-B', build,
      '-DCMAKE_BUILD_TYPE=Release',
      '-DND_ADDON=ON',
      ...(tests ? ['-DND_TESTS=ON'] : []),
      `-DCMAKE_JS_INC=${includes}`,
      `-DCMAKE_LIBRARY_OUTPUT_DIRECTORY=${join(root, 'build', 'Release')}`,
    ]) // prettier-ignore
    const jobs = process.env.JOBS ?? String(Math.max(1, availableParallelism()))
    const targets = tests ? ['node_diffusion', 'engine-tests'] : ['node_diffusion']
    run('cmake', ['--build', build, '--config', 'Release', '--parallel', jobs, '--target', ...targets])
  } catch (error) {
    if (!(error instanceof BuildError)) throw error
    throw new BuildError(`node-diffusion could not build its native addon: ${error.message}

Possible solutions:
- Install CMake (3.18 or newer) and a C++20 compiler, then \`npm rebuild node-diffusion\`:
${installHint ?? '  see your system’s documentation'}
- Read the compiler's messages above; remove ${build} and try again.
- Not this platform's fault? https://github.com/node-diffusion/node-diffusion/issues`)
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    buildAddon({ tests: process.argv.includes('--tests') })
  } catch (error) {
    console.error(error instanceof BuildError ? error.message : error)
    process.exit(1)
  }
}
