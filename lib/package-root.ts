import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, parse } from 'node:path'
import { fileURLToPath } from 'node:url'

declare const __filename: string | undefined

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
  } catch {
    return false
  }
}

/**
 * The package's folder, undefined if there is none: the nearest one above this file that has its package.json, from
 * dist/ and build/ts/lib/ alike; of code that was bundled, the one in node_modules.
 */
export function findPackageRoot(): string | undefined {
  const from = thisFile()
  for (let folder = dirname(from); folder !== parse(folder).root; folder = dirname(folder))
    if (isRoot(folder)) return folder
  for (const start of [from, join(process.cwd(), 'index.js')]) {
    try {
      return dirname(createRequire(start).resolve('node-diffusion/package.json'))
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

// Spelled out so that programs which trace a server's files (Next.js, AWS Lambda) see the folder.
const models = import.meta.url ? join(fileURLToPath(import.meta.url), '..', '..', 'models') : undefined

/** The folder of a model that comes with the package, or that lies beside the program (single executable applications). */
export function modelFolder(name: 'emoji-64' | 'emoji-64-vq'): string {
  for (const folder of [models, join(dirname(process.execPath), 'models')])
    if (folder && existsSync(join(folder, name))) return join(folder, name)
  return join(packageRoot(), 'models', name)
}
