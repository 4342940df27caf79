/** `npm run prebuild`: prebuilds/<platform>-<arch>/node-diffusion.node, stripped, for every Node version (Node-API). */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { createRequire } from 'node:module'
import { root } from './build-addon.mjs'

const shim = join(root, 'scripts', 'node-gyp-shim.mjs')
const { status } = spawnSync(
  'npx',
  ['prebuildify', '--napi', '--strip', `--target=${process.versions.node}`],
  {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, PREBUILD_NODE_GYP: shim },
    shell: process.platform === 'win32',
  },
)
if (status !== 0) process.exit(status ?? 1)

// A prebuild that does not load would only be noticed by users: load it now, from its own folder.
process.env.PREBUILDS_ONLY = '1'
const file = createRequire(import.meta.url)('node-gyp-build').path(root)
if (!existsSync(file)) throw new Error(`prebuildify made no ${file}`)
const { cpu } = createRequire(import.meta.url)(file)
console.log(`${file} loads: kernels ${cpu().kernels.join(', ')}`)
