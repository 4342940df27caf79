/**
 * `npm install`: takes the prebuilt addon where one loads, else builds. In a checkout it always builds, because a
 * prebuild there may be older than the sources; nothing changed means nothing compiled.
 */
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { BuildError, buildAddon, root } from './build-addon.mjs'

function prebuildLoads() {
  if (existsSync(join(root, '.git')) || process.env.npm_config_build_from_source) return false
  try {
    createRequire(import.meta.url)('node-gyp-build')(root)
    return true
  } catch {
    return false
  }
}

try {
  if (!prebuildLoads()) buildAddon()
} catch (error) {
  console.error(error instanceof BuildError ? `\n${error.message}\n` : error)
  process.exit(1)
}
