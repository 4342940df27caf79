/**
 * `npm install` in a checkout, and from git: dist/ and the addon, built from source. npm does not run this script where the
 * package is installed from the registry or from a tarball.
 */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { BuildError, buildAddon, root } from './build-addon.mjs'
import { isBuilt } from './built.mjs'

if (!isBuilt()) {
  const { status } = spawnSync(process.execPath, [join(root, 'scripts', 'build.mjs')], { stdio: 'inherit' })
  if (status !== 0) process.exit(status ?? 1)
}
try {
  buildAddon()
} catch (error) {
  console.error(error instanceof BuildError ? `\n${error.message}\n` : error)
  process.exit(1)
}
