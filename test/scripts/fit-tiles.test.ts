/** The fit of the tiles' constants finds those that times were made with. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'
import { packageRoot } from '../../lib/package-root.js'

const multiprocessors = 100
const truth = { resident: 2, latency: 0.7, step: 0.5, block: 6 }
const [splitTime, partialTime] = [4, 2e-6]

function run(blocks: number, steps: number, splits: number) {
  const each = Math.ceil(blocks / multiprocessors)
  const round = (resident: number) => steps * Math.max(truth.latency, resident * truth.step) + truth.block
  const partial = splits > 1 ? blocks * 4096 : 0
  const us =
    Math.floor(each / truth.resident) * round(truth.resident) +
    (each % truth.resident ? round(each % truth.resident) : 0) +
    (splits > 1 ? splitTime + partialTime * partial : 0)
  return { name: 'halves 0: a product', tile: 0, blocks, steps, splits, partial, us }
}

function fit(t: { testdir(files: Record<string, string>): string }, report: unknown) {
  const path = join(t.testdir({ 'report.json': JSON.stringify(report) }), 'report.json')
  return spawnSync(process.execPath, [join(packageRoot(), 'tools/bench/fit-tiles.mjs'), path], {
    encoding: 'utf8',
  })
}

const report = {
  device: 'a GPU',
  multiprocessors: `${multiprocessors}`,
  'tile times': [
    { name: 'halves 0', resident: 2, latency: 0.5, step: 0.435, block: 8 },
    { name: 'int8 0', resident: 3, latency: 0.4, step: 0.225, block: 5 },
  ],
  'tile runs': [
    ...[50, 90, 150, 200, 350, 1000].flatMap((blocks) =>
      [10, 30, 90, 360].map((steps) => run(blocks, steps, 1)),
    ),
    ...[100, 200, 400].flatMap((blocks) => [10, 60].map((steps) => run(blocks, steps, 4))),
  ],
}

t.test('the constants are found again', (t) => {
  for (const file of [report, { card: 'a GPU', kernels: report }]) {
    const { status, stdout, stderr } = fit(t, file)
    t.equal(status, 0, stderr)
    const [, ...found] = /→ {2, ([\d.]+), ([\d.]+), ([\d.]+)}/.exec(stdout)?.map(Number) ?? []
    const expected = [truth.latency, truth.step, truth.block]
    t.equal(found.length, 3, stdout)
    for (const [i, value] of found.entries()) t.ok(Math.abs(value / expected[i] - 1) < 0.02, stdout)
    const [, base, slope] = /kSplitTime ([\d.]+), kPartialTime ([\d.]+) /.exec(stdout)?.map(Number) ?? []
    t.ok(Math.abs(base / splitTime - 1) < 0.1 && Math.abs(slope / (partialTime * 6e6) - 1) < 0.1, stdout)
    t.match(stdout, 'int8 0: 0 runs are too few')
  }
  t.end()
})

t.test('a report without runs is refused', (t) => {
  const { status, stderr } = fit(t, { device: 'a GPU' })
  t.equal(status, 1)
  t.match(stderr, '"tile runs"')
  t.end()
})
