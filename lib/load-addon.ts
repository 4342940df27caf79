import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DiffusionError } from './errors.js'

/** The package's folder: the nearest one above this file whose package.json is ours (dist/ and build/ts/lib/ alike). */
export function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url))
  for (;;) {
    const file = join(folder, 'package.json')
    if (existsSync(file)) {
      const { name } = JSON.parse(readFileSync(file, 'utf8')) as { name?: unknown }
      if (name === 'node-diffusion') return folder
    }
    const parent = dirname(folder)
    if (parent === folder) throw new Error(`no package.json of node-diffusion above ${import.meta.url}`)
    folder = parent
  }
}

const compilerHint: Partial<Record<NodeJS.Platform, string>> = {
  darwin: 'xcode-select --install && brew install cmake',
  linux: 'sudo apt-get install cmake g++ make   (or your distribution’s names for these)',
}

/** Loads the addon that was built on this machine, else the prebuilt one of this platform. */
export function loadAddon(): unknown {
  const root = packageRoot()
  const load = createRequire(import.meta.url)('node-gyp-build') as (folder: string) => unknown
  try {
    return load(root)
  } catch (cause) {
    const platform = `${process.platform}-${process.arch}`
    const hint = compilerHint[process.platform]
    throw new DiffusionError(
      'NATIVE_UNAVAILABLE',
      `Could not load the native addon of node-diffusion for ${platform}, Node ${process.version}: ${(cause as Error).message.trim()}
Tried:
- ${join(root, 'build', 'Release', '*.node')}
- ${join(root, 'prebuilds', platform, '*.node')}
Possible solutions:
- Build it: npm rebuild node-diffusion
- Let its install script run: no --ignore-scripts; npm install-scripts approve node-diffusion; pnpm approve-builds
${hint ? `- Install a compiler and CMake first: ${hint}\n` : ''}- node_modules copied from another platform or image? Run npm install where the program runs`,
      { cause },
    )
  }
}
