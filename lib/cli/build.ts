/** `node-diffusion build`: compiles the addon from the sources in the package. */
import { spawn } from 'node:child_process'
import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { DiffusionError } from '../errors.js'
import { loadAddon } from '../load-addon.js'
import { packageRoot } from '../package-root.js'
import type { BuildFlags } from './program.js'
import type { Terminal } from './terminal.js'

export async function build(flags: BuildFlags, terminal: Terminal): Promise<void> {
  if (flags.ifNeeded && loads()) return
  const root = packageRoot()
  const script = join(root, 'scripts', 'build-addon.mjs')
  const options = flags.native ? ['-DCMAKE_CXX_FLAGS=-march=native'] : []
  const child = spawn(process.execPath, [script, ...options], { stdio: ['ignore', 'inherit', 'inherit'] })
  const stop = (): void => void child.kill()
  terminal.signal.addEventListener('abort', stop, { once: true })
  const status = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject).on('close', resolve)
  }).finally(() => terminal.signal.removeEventListener('abort', stop))
  if (status !== 0) throw new DiffusionError('NATIVE_UNAVAILABLE', 'The addon was not built')
  // Nobody compiles a dependency a second time; a checkout keeps its objects.
  if (!existsSync(join(root, '.git'))) rmSync(join(root, 'build', 'cmake'), { recursive: true, force: true })
  terminal.stderr.write(`Built ${join(root, 'build', 'Release', 'node_diffusion.node')}\n`)
}

function loads(): boolean {
  try {
    loadAddon()
    return true
  } catch {
    return false
  }
}
