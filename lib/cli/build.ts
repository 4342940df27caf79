/** `node-diffusion build`: compiles the addon from the sources in the package. */
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { readArchive } from '../archive.js'
import { DiffusionError } from '../errors.js'
import { loadAddon } from '../load-addon.js'
import { packageRoot } from '../package-root.js'
import type { BuildFlags } from './flags.js'
import type { Terminal } from './terminal.js'

export async function build(flags: BuildFlags, terminal: Terminal): Promise<void> {
  if (flags.ifNeeded && loads()) return
  const root = packageRoot()
  const output = join(root, 'build', 'Release')
  // A checkout has them as they are.
  const unpacked = existsSync(join(root, 'CMakeLists.txt')) ? undefined : await unpackSources(root)
  const script = join(unpacked ?? root, 'scripts', 'build-addon.mjs')
  const options = [
    `-DCMAKE_LIBRARY_OUTPUT_DIRECTORY=${output}`,
    ...(flags.native ? ['-DCMAKE_CXX_FLAGS=-march=native'] : []),
  ]
  const child = spawn(process.execPath, [script, ...options], { stdio: ['ignore', 'inherit', 'inherit'] })
  const stop = (): void => void child.kill()
  terminal.signal.addEventListener('abort', stop, { once: true })
  const status = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject).on('close', resolve)
  }).finally(() => terminal.signal.removeEventListener('abort', stop))
  if (status !== 0) throw new DiffusionError('NATIVE_UNAVAILABLE', 'The addon was not built')
  // Nobody compiles a dependency a second time; a checkout keeps its objects.
  if (unpacked !== undefined) rmSync(unpacked, { recursive: true, force: true })
  else if (!existsSync(join(root, '.git')))
    rmSync(join(root, 'build', 'cmake'), { recursive: true, force: true })
  terminal.stderr.write(`Built ${join(output, 'node_diffusion.node')}\n`)
}

/** Unpacks the sources, which the package has as an archive: most who install it never need them. Returns their folder. */
async function unpackSources(root: string): Promise<string> {
  const folder = join(root, 'build', 'sources')
  rmSync(folder, { recursive: true, force: true })
  for (const [name, content] of await readArchive(join(root, 'sources.br'))) {
    const path = join(folder, ...name.split('/'))
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, content)
  }
  return folder
}

function loads(): boolean {
  try {
    loadAddon()
    return true
  } catch {
    return false
  }
}
