/**
 * Speed of the kernels as they are published, compiled by zig (scripts/prebuild.mjs), against those that this machine's compiler
 * makes: `node bench/compilers.mjs [--rounds 5] [--seconds 0.2] [--tables avx512,avx2] [--only-build] [FILTER]`. In every round
 * both programs run, and the one that runs first changes from round to round. The result is the median of the rounds' ratios,
 * because some kernels are up to 3 % faster or slower depending on where the memory of a process lies. It fails if one of
 * zig's kernels has less than 0.98 of the other's speed. Needs a quiet machine, except with `--only-build`, which makes the
 * programs and measures nothing.
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
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '0.2' },
    tables: { type: 'string' },
    'only-build': { type: 'boolean' },
  },
  allowPositionals: true,
})

/** The time of each kernel of a table (by default, of all that this CPU can run), by table and name. */
async function measure(program, table) {
  const args = ['--json', '--seconds', values.seconds, ...(table ? ['--table', table] : []), ...positionals]
  const { rows, status } = await runJson(program, args)
  if (status !== 0) throw new Error(`${program} failed (status ${status})`)
  return new Map(
    rows.filter(({ name }) => name).map((row) => [`${row.table.padEnd(10)} ${row.name}`, row.seconds]),
  )
}

function median(numbers) {
  const sorted = numbers.toSorted((a, b) => a - b)
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2
}

buildAddon(['kernel-bench'])
const zig = buildWithZig(findZig(), ownPlatform, {
  target: 'kernel-bench',
  options: ['-DND_TESTS=ON', '-DND_CUDA_EMULATOR=OFF'],
  folder: 'bench',
})
const [own, published] = [join(objects, 'kernel-bench'), join(zig, 'kernel-bench')].map((path) =>
  resolve(path),
)
if (values['only-build']) {
  console.log(`${own}\n${published}`)
} else {
  const ratios = new Map()
  const best = new Map()
  for (const table of values.tables?.split(',') ?? [undefined])
    for (let round = 0; round < Number(values.rounds); round++) {
      const times = new Map()
      for (const program of round % 2 ? [published, own] : [own, published])
        times.set(program, await measure(program, table))
      for (const [key, seconds] of times.get(own)) {
        ratios.set(key, [...(ratios.get(key) ?? []), seconds / times.get(published).get(key)])
        best.set(key, Math.min(best.get(key) ?? Infinity, seconds))
      }
    }
  let slower = 0
  for (const [key, all] of ratios) {
    const ratio = median(all)
    if (!(ratio >= least)) slower++
    console.log(
      `${key.padEnd(64)} ${(best.get(key) * 1e3).toFixed(3).padStart(9)} ms ${ratio.toFixed(3)}` +
        ` (${Math.min(...all).toFixed(3)} to ${Math.max(...all).toFixed(3)})${ratio >= least ? '' : '  slower'}`,
    )
  }
  console.log(
    `${ratios.size - slower} kernels of ${ratios.size} are at least ${least} as fast as this machine's compiler makes them`,
  )
  process.exitCode = slower > 0 ? 1 : 0
}
