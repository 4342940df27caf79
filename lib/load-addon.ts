import { createRequire } from 'node:module'
import { join } from 'node:path'
import { DiffusionError } from './errors.js'
import { packageRoot } from './package-root.js'

const compilerHint: Partial<Record<NodeJS.Platform, string>> = {
  darwin: 'xcode-select --install && brew install cmake',
  linux: 'sudo apt-get install cmake g++ make   (or your distribution’s names for these)',
}

/** Loads the addon that was built on this machine, or else the prebuilt one for this platform. */
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
- Let its install script run: without --ignore-scripts, after npm install-scripts approve node-diffusion or pnpm approve-builds
${hint ? `- Install a compiler and CMake first: ${hint}\n` : ''}- If node_modules was copied from another platform or image, run npm install where the program runs`,
      { cause },
    )
  }
}
