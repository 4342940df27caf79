import { existsSync, readFileSync } from 'node:fs'
import nodeModule from 'node:module'
import { dirname, join, parse } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DiffusionError } from './errors.js'

declare const __filename: string | undefined
declare const __dirname: string | undefined

/** The path of this file, or of the bundle that it has become a part of. */
export function thisFile(): string {
  // A bundler that writes CommonJS leaves no import.meta.url.
  if (import.meta.url) return fileURLToPath(import.meta.url)
  return typeof __filename === 'string' ? __filename : join(process.cwd(), 'index.js')
}

function isRoot(folder: string): boolean {
  const file = join(folder, 'package.json')
  if (!existsSync(file)) return false
  try {
    return (JSON.parse(readFileSync(file, 'utf8')) as { name?: unknown }).name === 'node-diffusion'
  } catch (cause) {
    // Without file descriptors, the package's own folder would look like any other.
    if (['EMFILE', 'ENFILE'].includes((cause as NodeJS.ErrnoException).code ?? ''))
      throw new DiffusionError('IO', `Cannot read ${file}`, { cause })
    return false
  }
}

/** The nearest folder above this file that has the package's package.json, from dist/ and build/ts/lib/ alike. */
function rootAbove(from: string): string | undefined {
  for (let folder = dirname(from); folder !== parse(folder).root; folder = dirname(folder))
    if (isRoot(folder)) return folder
  return undefined
}

/** The package's folder, undefined if there is none: the one above this file; of code that was bundled, that in node_modules. */
export function findPackageRoot(): string | undefined {
  return rootAbove(thisFile()) ?? installedRoot()
}

function installedRoot(): string | undefined {
  for (const start of [thisFile(), join(process.cwd(), 'index.js')]) {
    try {
      return dirname(nodeModule.createRequire(start).resolve('node-diffusion/package.json'))
    } catch {
      // Not installed above this file.
    }
  }
  return undefined
}

/** The package's folder. */
export function packageRoot(): string {
  const root = findPackageRoot()
  if (!root) throw new Error(`no package.json of node-diffusion above ${thisFile()}`)
  return root
}

/**
 * Where prebuilds/ and models/ may be, in order: in the package; beside the bundle that this code is a part of, or the script
 * that was started; beside the program (single executable and packaged applications).
 */
export function resourceFolders(): string[] {
  const program = dirname(process.execPath)
  const above = rootAbove(thisFile())
  if (above) return [...new Set([above, program])]
  const installed = installedRoot()
  const script = process.argv[1]
  const beside = [dirname(thisFile()), ...(script ? [dirname(script)] : [])]
  return [...new Set([...(installed ? [installed] : []), ...beside, program])]
}

/** What to do about a file of the package that is in none of these folders. */
export const bundleHint =
  'If the program is bundled, keep node-diffusion out of the bundle (external: ["node-diffusion"]),\n' +
  '  or copy its folders prebuilds and models to where the bundle is'

// Folders spelled out so that programs which trace a server's files see them, each in an expression of its own: Next.js by
// __dirname, which ES modules do not have, and others (AWS Lambda's) by import.meta.url.
const models = import.meta.url ? join(fileURLToPath(import.meta.url), '..', '..', 'models') : undefined
const kernels = import.meta.url
  ? join(fileURLToPath(import.meta.url), '..', '..', 'prebuilds', 'cuda')
  : undefined
const commonModels = typeof __dirname === 'string' ? join(__dirname, '..', 'models') : undefined
const commonKernels = typeof __dirname === 'string' ? join(__dirname, '..', 'prebuilds', 'cuda') : undefined

const known = (path: string | undefined): path is string => path !== undefined

/** Where the kernels for GPUs may be: what this machine has built first. */
export function kernelFolders(): string[] {
  const found = resourceFolders().flatMap((folder) => [
    join(folder, 'build', 'Release', 'cuda'),
    join(folder, 'prebuilds', 'cuda'),
  ])
  return [...new Set([...found, ...[kernels, commonKernels].filter(known)])]
}

/**
 * The folder of a model that comes with the package, or of CLIP's vocabulary.
 *
 * @throws {DiffusionError} MODEL_NOT_FOUND: a bundler or a tracer has left it behind; IO: no file descriptors are left
 */
export function modelFolder(name: 'clip' | 'emoji-64' | 'emoji-64-vq'): string {
  const folders = [
    ...[models, commonModels].filter(known),
    ...resourceFolders().map((folder) => join(folder, 'models')),
  ]
  const tried = [...new Set(folders)].map((folder) => join(folder, name))
  const found = tried.find((folder) => existsSync(folder))
  if (found) return found
  throw new DiffusionError(
    'MODEL_NOT_FOUND',
    `The folder models/${name} of node-diffusion was not found. Tried:\n${tried.map((folder) => `- ${folder}`).join('\n')}\n${bundleHint}`,
  )
}
