/** Gzip by PyPI's Zopfli, which takes minutes where zlib takes a second, for files a fiftieth smaller. */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { root } from './build-addon.mjs'

const wheel = 'zopfli==0.4.3'
const installed = join(root, 'build', 'zopfli')

const program = `
import sys
sys.path.insert(0, sys.argv[1])
import zopfli.gzip
sys.stdout.buffer.write(zopfli.gzip.compress(sys.stdin.buffer.read(), numiterations=5))
`

function python(args, options) {
  const { status, stdout, error } = spawnSync('python3', args, {
    stdio: ['pipe', 'pipe', 'inherit'],
    maxBuffer: 1 << 30,
    ...options,
  })
  if (error || status !== 0)
    throw new Error(`Zopfli: python3 failed: ${error?.message ?? `status ${status}`}`)
  return stdout
}

/** Compresses the content of a .gz file again, in place; returns its new size in bytes. */
export function recompress(path) {
  if (!existsSync(installed))
    python(['-m', 'pip', 'install', '--quiet', '--root-user-action=ignore', '--target', installed, wheel])
  const content = gunzipSync(readFileSync(path))
  const packed = python(['-c', program, installed], { input: content })
  if (!gunzipSync(packed).equals(content)) throw new Error(`${path} could not be compressed by Zopfli`)
  writeFileSync(path, packed)
  return packed.length
}
