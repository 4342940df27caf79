/**
 * `npm run torture`: every harness for hostile use at full size, and a table of what came of it. Exit status 1 when anything
 * crashed, leaked or went wrong.
 *
 *   npm run torture                          all harnesses
 *   npm run torture -- concurrent            those whose name contains this
 *   npm run torture -- --count 50 --seed 7   this many cases of each, from this seed (default: 1)
 *   npm run torture -- --minutes 30          stop a harness that takes longer (default: 120)
 *   npm run torture -- --list                names and counts
 *
 * CONTRIBUTING.md says how to write one.
 */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { buildAddon, BuildError, root } from './build-addon.mjs'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    count: { type: 'string' },
    seed: { type: 'string', default: '1' },
    minutes: { type: 'string', default: '120' },
    list: { type: 'boolean', default: false },
  },
})

function build() {
  buildAddon()
  const { status } = spawnSync(
    process.execPath,
    [join(root, 'node_modules/typescript/bin/tsc'), '-p', 'test'],
    {
      cwd: root,
      stdio: 'inherit',
    },
  )
  if (status !== 0) throw new BuildError('The harnesses could not be compiled.')
}

const size = (bytes) => (bytes === 0 ? '0' : `${(bytes / 2 ** 20).toFixed(1)} MiB`)
const row = (cells) => `| ${cells.join(' | ')} |`

async function torture() {
  build()
  const { findHarnesses, runHarness } = await import(
    pathToFileURL(join(root, 'build/ts/test/hostile/run-harness.js')).href
  )
  const harnesses = (await findHarnesses()).filter(
    ({ name }) => positionals.length === 0 || positionals.some((part) => name.includes(part)),
  )
  if (harnesses.length === 0) throw new BuildError(`No harness is called ${positionals.join(' or ')}`)
  if (values.list) {
    for (const { name, counts } of harnesses)
      console.log(`${name}: ${counts.full} (in the tests: ${counts.small})`)
    return 0
  }
  console.log(row(['harness', 'tried', 'crashed', 'leaked', 'wrong', 'worst event-loop delay', 'time']))
  console.log(row(['---', '--:', '--:', '--:', '--:', '--:', '--:']))
  let bad = 0
  const failures = []
  for (const harness of harnesses) {
    const began = performance.now()
    const result = await runHarness(harness, {
      count: Number(values.count ?? harness.counts.full),
      seed: Number(values.seed),
      timeout: Number(values.minutes) * 60_000,
    })
    const { tried, crashed, leaked, worstDelay } = result
    const delay = worstDelay > 0 ? `${worstDelay.toFixed(0)} ms` : '—'
    const time = `${((performance.now() - began) / 1000).toFixed(0)} s`
    console.log(row([harness.name, tried, crashed, size(leaked), result.failures.length, delay, time]))
    bad += crashed + leaked + result.failures.length
    failures.push(...result.failures.map((failure) => `${harness.name}: ${failure}`))
  }
  for (const failure of failures) console.log(failure)
  return bad === 0 ? 0 : 1
}

try {
  process.exitCode = await torture()
} catch (error) {
  console.error(error instanceof BuildError ? error.message : error)
  process.exitCode = 1
}
