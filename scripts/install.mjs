/**
 * `npm install`: takes the prebuilt addon where one loads, else builds. In a checkout it always builds, because a
 * prebuild there may be older than the sources; nothing changed means nothing compiled.
 */
import { existsSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { BuildError, buildAddon, objects, root } from './build-addon.mjs'

const checkout = existsSync(join(root, '.git'))

function prebuildLoads() {
  if (checkout || process.env.npm_config_build_from_source) return false
  try {
    createRequire(import.meta.url)('node-gyp-build')(root)
    return true
  } catch {
    return false
  }
}

try {
  if (!prebuildLoads()) {
    buildAddon()
    // Nobody compiles a dependency a second time: 6 MB less in node_modules.
    if (!checkout) rmSync(objects, { recursive: true, force: true })
  }
} catch (error) {
  console.error(error instanceof BuildError ? `\n${error.message}\n` : error)
  process.exit(1)
}
