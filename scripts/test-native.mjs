/**
 * `npm run test:native -- FILTER`: builds what has changed and runs the native tests whose name contains FILTER; without
 * one, all. `--preset asan` (or debug, tsan, release) does so in that preset's own build folder, `--small` takes the cases
 * for emulators.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { buildAddon, BuildError, jobs, objects, root, testPrograms } from './build-addon.mjs'
import { run } from './run.mjs'
import { reportLeft, withTemporaryFolder } from './temporary.mjs'

const sanitizerOptions = {
  ASAN_OPTIONS: 'detect_leaks=1:strict_string_checks=1',
  UBSAN_OPTIONS: 'print_stacktrace=1',
  TSAN_OPTIONS: 'second_deadlock_stack=1',
}

function cmake(...args) {
  const { status, error } = spawnSync('cmake', args, { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] })
  if (error) throw new BuildError(`cmake: ${error.message}`)
  if (status !== 0) throw new BuildError(`cmake ${args.join(' ')} failed (status ${status})`)
}

/** Builds the test programs; returns them with paths. */
function build(preset, programs) {
  if (preset) {
    cmake('--preset', preset)
    cmake('--build', '--preset', preset, '--parallel', jobs, '--target', 'engine-tests')
    return [[join(root, 'build', preset, 'engine-tests')]]
  }
  // In the addon's own build folder: the engine is compiled once for both.
  buildAddon([...new Set(programs.map(([program]) => program))])
  return programs.map(([program, ...args]) => [
    [objects, join(objects, 'Release')]
      .flatMap((folder) => [program, `${program}.exe`].map((name) => join(folder, name)))
      .find((place) => existsSync(place)),
    ...args,
  ])
}

/**
 * Builds and runs the native tests; args are theirs. The tests of the CUDA backend, whose names begin with `cuda/`, run
 * apart: a filter chooses between them and the engine's.
 */
export async function testNative(args = [], preset = undefined) {
  const filter = args.find((arg) => !arg.startsWith('-'))
  const programs = testPrograms.filter(
    ([, ...device]) => filter === undefined || filter.startsWith('cuda') === device.length > 0,
  )
  const waiting = build(preset, programs)
  const sum = { passed: 0, failed: 0 }
  const worker = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      const [program, ...device] = next
      const { status, text } = await run(program, [...device, ...args], sanitizerOptions)
      const counts = [...text.matchAll(/(\d+) passed, (\d+) failed/g)].pop()
      const [passed, failed] = counts ? [Number(counts[1]), Number(counts[2])] : [0, 0]
      sum.passed += passed
      sum.failed += status !== 0 && failed === 0 ? 1 : failed
    }
  }
  // Each spends most of its time on one thread.
  const { left } = await withTemporaryFolder(() => Promise.all(Array.from({ length: Number(jobs) }, worker)))
  sum.failed += reportLeft(left)
  return sum
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const args = process.argv.slice(2)
  const at = args.indexOf('--preset')
  const [, preset] = at < 0 ? [] : args.splice(at, 2)
  try {
    const { passed, failed } = await testNative(args, preset)
    console.log(`${passed} passed, ${failed} failed`)
    process.exitCode = failed > 0 ? 1 : 0
  } catch (error) {
    console.error(error instanceof BuildError ? error.message : error)
    process.exitCode = 1
  }
}
