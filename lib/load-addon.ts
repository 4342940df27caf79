import { existsSync } from 'node:fs'
import nodeModule from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { DiffusionError } from './errors.js'
import { bundleHint, findPackageRoot, resourceFolders, thisFile } from './package-root.js'

/**
 * The prebuilt addon for a platform, undefined where there is none. Each path is spelled out where it is returned, so that
 * bundlers (webpack, Vite) copy the file and programs that trace a server's files (Next.js, AWS Lambda) see it.
 */
function prebuilt(platform: string): URL | undefined {
  switch (platform) {
    case 'linux-x64':
      return new URL('../prebuilds/linux-x64/node-diffusion.node', import.meta.url)
    case 'linux-arm64':
      return new URL('../prebuilds/linux-arm64/node-diffusion.node', import.meta.url)
    case 'darwin-x64':
      return new URL('../prebuilds/darwin-x64/node-diffusion.node', import.meta.url)
    case 'darwin-arm64':
      return new URL('../prebuilds/darwin-arm64/node-diffusion.node', import.meta.url)
    case 'win32-x64':
      return new URL('../prebuilds/win32-x64/node-diffusion.node', import.meta.url)
    case 'win32-arm64':
      return new URL('../prebuilds/win32-arm64/node-diffusion.node', import.meta.url)
    default:
      return undefined
  }
}

const compilerHint: Partial<Record<NodeJS.Platform, string>> = {
  darwin: 'xcode-select --install && brew install cmake',
  linux: 'sudo apt-get install cmake g++ make, or your distribution’s names for these',
  win32: 'Visual Studio 2022 with “Desktop development with C++”, “C++ Clang tools” and CMake',
}

/** Where addons may be, in the order of node-gyp-build: built here, prebuilt, and beside the program (bundles, packaged apps). */
function candidates(): string[] {
  const platform = `${process.platform}-${process.arch}`
  const below = (folder: string): string => join(folder, 'prebuilds', platform, 'node-diffusion.node')
  const own = process.env.NODE_DIFFUSION_PREBUILD
  const root = own ?? findPackageRoot()
  const paths: string[] = []
  if (root && !process.env.PREBUILDS_ONLY)
    paths.push(...['Release', 'Debug'].map((type) => join(root, 'build', type, 'node_diffusion.node')))
  try {
    const url = own ? undefined : prebuilt(platform)
    if (url) paths.push(fileURLToPath(url))
  } catch {
    // A bundler has left no file URL.
  }
  paths.push(...(own ? [own, dirname(process.execPath)] : resourceFolders()).map(below))
  return [...new Set(paths)]
}

/** What a system says of a library that it cannot load, without the path that it repeats. */
function reasonOf(error: unknown, path: string): string {
  const message = error instanceof Error ? error.message : String(error)
  return (
    message
      .split('\n')[0]
      .replaceAll(path, '')
      .replace(/^[\s:]+/, '')
      .trim() || 'could not be loaded'
  )
}

/** Loads the addon that was built on this machine, or else the prebuilt one for this platform. */
export function loadAddon(): unknown {
  // Not imported by its name: webpack would replace it by a `require` of its own, which knows no addon.
  const load = nodeModule.createRequire(pathToFileURL(thisFile()))
  const tried: string[] = []
  const paths = candidates()
  let cause: unknown
  for (const path of paths) {
    if (!existsSync(path)) {
      tried.push(`- ${path}: not found`)
      continue
    }
    try {
      return load(path)
    } catch (error) {
      cause ??= error
      tried.push(`- ${path}: ${reasonOf(error, path)}`)
    }
  }
  const hint = compilerHint[process.platform]
  throw new DiffusionError(
    'NATIVE_UNAVAILABLE',
    `Could not load the native addon of node-diffusion for ${process.platform}-${process.arch}, Node ${process.version}
Tried:
${tried.join('\n')}
Possible solutions:
- If node_modules was copied from another platform or image, install where the program runs
- ${bundleHint}
- Compile it: npx node-diffusion build   (pnpm exec, yarn or bunx node-diffusion build)
  This needs CMake 3.18 and a C++17 compiler${hint ? `: ${hint}` : ''}
- If the package was installed from git, it is compiled by a script that package managers block until it is approved:
  npm install-scripts approve node-diffusion && npm rebuild node-diffusion, or npm install -g --allow-scripts=node-diffusion;
  pnpm approve-builds; Yarn: "dependenciesMeta": { "node-diffusion": { "built": true } }; bun pm trust node-diffusion`,
    { cause },
  )
}
