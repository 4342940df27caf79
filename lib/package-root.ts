import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The package's folder: the nearest one above this file that has its package.json, from dist/ and build/ts/lib/ alike. */
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
