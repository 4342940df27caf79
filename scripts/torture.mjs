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
import { buildAddon, BuildError, jobs, objects, root, testLibraries } from './build-addon.mjs'

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
  buildAddon(['node_diffusion', ...testLibraries])
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

/** Runs a native program; the result of a harness. `tried` finds its number of cases in what it prints. */
function runNative(program, args, env, tried, timeout) {
  const { status, signal, stdout, stderr, error } = spawnSync(program, args, {
    cwd: root,
    env: { ...process.env, ...env },
    encoding: 'utf8',
    timeout,
    killSignal: 'SIGKILL',
    maxBuffer: 2 ** 26,
  })
  const text = `${stdout}\n${stderr}`
  const failures = text.split('\n').filter((line) => /^FAIL |SUMMARY: /.test(line))
  const crashed = status === 0 || failures.some((line) => line.startsWith('FAIL')) ? 0 : 1
  if (crashed)
    failures.push(`${program} ${args.join(' ')}: ${error?.message ?? signal ?? `status ${status}`}`)
  return {
    tried: Number(tried.exec(text)?.[1] ?? 0),
    crashed,
    leaked: 0,
    delay: { p99: 0, worst: 0, cpu: 0 },
    failures,
  }
}

/** The harnesses of the engine alone: tests of engine-tests, and libFuzzer's programs where Clang is installed. */
function nativeHarnesses() {
  const tests = (name, filter, env) => ({
    name,
    counts: { full: 'all', small: 'a sample' },
    run: ({ timeout, count }) => {
      buildAddon(['engine-tests'])
      const program = join(objects, 'engine-tests')
      const counted = filter === 'fuzz/' ? { ND_FUZZ_COUNT: String(count ?? 300_000) } : env
      return runNative(program, [filter], counted, /^(\d+) tried$/m, timeout)
    },
  })
  const fuzzer = ([target, full]) => ({
    name: `engine, libFuzzer: ${target}`,
    counts: { full, small: 0 },
    run: ({ timeout, count, seed }) => {
      for (const args of [
        ['--preset', 'fuzz'],
        ['--build', '--preset', 'fuzz', '--parallel', jobs, '--target', `fuzz-${target}`],
      ])
        if (spawnSync('cmake', args, { cwd: root, stdio: 'ignore' }).status !== 0)
          throw new BuildError(`cmake ${args.join(' ')} failed`)
      const args = [`-runs=${count ?? full}`, `-seed=${seed}`, '-max_len=4096', '-print_final_stats=1']
      const program = join(root, 'build', 'fuzz', `fuzz-${target}`)
      return runNative(program, args, {}, /number_of_executed_units:\s*(\d+)/, timeout)
    },
  })
  const clang = spawnSync('clang++', ['--version'], { stdio: 'ignore' }).status === 0
  return [
    tests('engine, failing allocations', 'memory/ every', { ND_TEST_THOROUGH: '1' }),
    tests('engine, failing and short reads', 'reads/', {}),
    tests('engine, random bytes', 'fuzz/', {}),
    ...(clang ? Object.entries({ blocks: 200_000, weight_table: 30_000, configs: 300_000 }).map(fuzzer) : []),
  ]
}

const size = (bytes) => (bytes === 0 ? '0' : `${(bytes / 2 ** 20).toFixed(1)} MiB`)
const row = (cells) => `| ${cells.join(' | ')} |`

async function torture() {
  build()
  const { findHarnesses, runHarness } = await import(
    pathToFileURL(join(root, 'build/ts/test/hostile/run-harness.js')).href
  )
  const modules = (await findHarnesses()).map((harness) => ({
    ...harness,
    run: ({ count, seed, timeout }) =>
      runHarness(harness, { count: count ?? harness.counts.full, seed, timeout }),
  }))
  const harnesses = [...nativeHarnesses(), ...modules].filter(
    ({ name }) => positionals.length === 0 || positionals.some((part) => name.includes(part)),
  )
  if (harnesses.length === 0) throw new BuildError(`No harness is called ${positionals.join(' or ')}`)
  if (values.list) {
    for (const { name, counts } of harnesses)
      console.log(`${name}: ${counts.full} (in the tests: ${counts.small})`)
    return 0
  }
  console.log(
    row([
      'harness',
      'tried',
      'crashed',
      'leaked',
      'wrong',
      'event-loop delay, p99',
      'worst',
      'of it CPU time',
      'time',
    ]),
  )
  console.log(row(['---', ...Array(8).fill('--:')]))
  let bad = 0
  const failures = []
  for (const harness of harnesses) {
    const began = performance.now()
    const result = await harness.run({
      count: values.count === undefined ? undefined : Number(values.count),
      seed: Number(values.seed),
      timeout: Number(values.minutes) * 60_000,
    })
    const { tried, crashed, leaked, failures: wrong } = result
    const { p99, worst, cpu } = result.delay
    const delays = [p99, worst, cpu].map((ms) => (ms > 0 ? `${ms.toFixed(0)} ms` : '—'))
    const time = `${((performance.now() - began) / 1000).toFixed(0)} s`
    console.log(row([harness.name, tried, crashed, size(leaked), wrong.length, ...delays, time]))
    bad += crashed + leaked + wrong.length
    failures.push(...wrong.map((failure) => `${harness.name}: ${failure}`))
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
