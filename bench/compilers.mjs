/**
 * Speed of the kernels as they are published, compiled by zig (scripts/prebuild.mjs), against those that this machine's compiler
 * makes: `node bench/compilers.mjs [--rounds 3] [--tables avx512,avx2] [--only-build] [FILTER]`. Both programs run by turns, and
 * the best time of each kernel counts. It fails if one of zig's is slower than 0.98 of the other. Needs a quiet machine; with
 * `--only-build`, which does not, it makes the programs and measures nothing.
 */
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { buildAddon, objects } from '../scripts/build-addon.mjs'
import { findZig, ownPlatform } from '../scripts/platforms.mjs'
import { buildWithZig } from '../scripts/prebuild.mjs'
import { runJson } from './process.mjs'

const least = 0.98

const { values, positionals } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    tables: { type: 'string' },
    'only-build': { type: 'boolean' },
  },
  allowPositionals: true,
})

/** The fastest time of each kernel, by table and name. */
async function measure(program, best) {
  for (const table of values.tables?.split(',') ?? ['']) {
    const args = ['--json', ...(table && ['--table', table]), ...positionals]
    const { rows, status } = await runJson(program, args)
    if (status !== 0) throw new Error(`${program} failed (status ${status})`)
    for (const row of rows) {
      if (!row.name) continue
      const key = `${row.table.padEnd(10)} ${row.name}`
      best.set(key, Math.min(best.get(key) ?? Infinity, row.seconds))
    }
  }
}

buildAddon(['kernel-bench'])
const zig = buildWithZig(findZig(), ownPlatform, {
  target: 'kernel-bench',
  options: ['-DND_TESTS=ON', '-DND_CUDA_EMULATOR=OFF'],
  folder: 'bench',
})
const programs = [join(objects, 'kernel-bench'), join(zig, 'kernel-bench')].map((path) => resolve(path))
if (values['only-build']) {
  console.log(programs.join('\n'))
} else {
  const [own, published] = [new Map(), new Map()]
  for (let round = 0; round < Number(values.rounds); round++) {
    // Each is the first one by turns.
    const order = [
      [programs[0], own],
      [programs[1], published],
    ]
    for (const [program, best] of round % 2 ? order.reverse() : order) await measure(program, best)
  }
  const slow = []
  for (const [key, seconds] of own) {
    const ratio = seconds / published.get(key)
    if (!(ratio >= least)) slow.push(key)
    console.log(
      `${key.padEnd(64)} ${(seconds * 1e3).toFixed(3).padStart(9)} ms ${ratio.toFixed(3)}${ratio >= least ? '' : '  slower'}`,
    )
  }
  console.log(
    `${own.size - slow.length} kernels of ${own.size} are at least ${least} as fast as this machine's compiler makes them`,
  )
  process.exitCode = slow.length > 0 ? 1 : 0
}
