/**
 * Calls of everything that the package exports, with hostile arguments: a valid call of which one to three values, at any
 * depth, are replaced. A call succeeds, or fails with a TypeError, a RangeError or a DiffusionError that says what is
 * wrong, or with the error that an argument of the caller threw itself.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DiffusionPipeline } from '../../lib/index.js'
import { apiCalls, loadSubjects, places, type Subjects } from './api-calls.js'
import { DelayWatch, emptyResult, heldBytes, leakedBytes, Random, settled, type Result } from './harness.js'
import { hostileValue, OwnError } from './hostile-values.js'
import { describe, objection } from './objection.js'

export const name = 'hostile calls of the API'
export const counts = { small: 300, full: 5000 }

/** How often memory is measured. */
const measurements = 12
/** Milliseconds. */
const patience = 60_000

/** Replaces some of the arguments; says what was done. */
function spoil(args: unknown[], random: Random, subjects: Subjects): string[] {
  // Listed before the first is replaced: reading what was put in can throw.
  const all = places(args, 4)
  return Array.from({ length: 1 + random.below(3) }, () => {
    const [holder, key] = random.pick(all)
    const { name, value } = hostileValue(random)
    const how = random.below(12)
    if (how === 0)
      Object.defineProperty(holder, key, { get: () => { throw new OwnError('mine') }, configurable: true, enumerable: true }) // prettier-ignore
    else if (how === 1 && random.below(8) === 0) {
      // A getter that disposes of what the call is made on.
      const get = () => (void subjects.pipe.dispose(), value)
      Object.defineProperty(holder, key, { get, configurable: true, enumerable: true })
    } else if (how === 2)
      Object.defineProperty(holder, name, { value, configurable: true, enumerable: true, writable: true })
    else if (typeof value !== 'symbol' || !Array.isArray(holder) || key !== 'length')
      Object.defineProperty(holder, key, { value, configurable: true, enumerable: true, writable: true })
    return how === 0 ? `${String(key)}: throws` : how === 2 ? `added ${name}` : `${String(key)}: ${name}`
  })
}

export async function run({ count, seed }: { count: number; seed: number }): Promise<Result> {
  const result = emptyResult()
  const folder = mkdtempSync(join(tmpdir(), 'hostile-'))
  const before = process.cwd()
  process.chdir(folder)
  const watch = new DelayWatch()
  let subjects = await loadSubjects()
  // Without those that take no arguments.
  const names = Object.keys(apiCalls).filter((name) => apiCalls[name].args(subjects).length > 0)
  const held: number[] = []
  const unhandled = (error: unknown) =>
    result.failures.push(`seed ${seed}: unhandled rejection ${String(error)}`)
  process.on('unhandledRejection', unhandled)
  try {
    for (let i = 0; i < count; i++) {
      if (i % Math.ceil(count / measurements) === 0) held.push(await heldBytes())
      const random = new Random(seed * 1_000_003 + i)
      const which = random.pick(names)
      const args = apiCalls[which].args(subjects)
      const spoiled = spoil(args, random, subjects)
      const tell = (why: string) =>
        result.failures.push(`seed ${seed}, call ${i}, ${which}(${spoiled.join(', ')}): ${why}`)
      watch.start()
      const outcome = await settled((async () => apiCalls[which].call(subjects, args as never[]))(), patience)
      watch.pause()
      result.tried++
      if (!outcome) {
        result.crashed++
        tell('has not settled')
      } else if ('error' in outcome) {
        const why = objection(outcome.error)
        if (why) tell(`${why}: ${describe(outcome.error)}`)
      } else await dispose(outcome.value)
      if (subjects.pipe.disposed) subjects = { ...subjects, pipe: await DiffusionPipeline.load() }
    }
    held.push(await heldBytes())
    result.leaked = leakedBytes(held)
  } finally {
    process.off('unhandledRejection', unhandled)
    process.chdir(before)
    rmSync(folder, { recursive: true, force: true })
    await Promise.all(
      Object.values(subjects).map((subject: { dispose(): Promise<void> }) => subject.dispose()),
    )
  }
  result.delay = watch.delay
  return result
}

/** Loaded models are freed. */
async function dispose(value: unknown): Promise<void> {
  const made = value as { dispose?: () => Promise<void> } | undefined
  if (typeof made === 'object' && made !== null && typeof made.dispose === 'function') await made.dispose()
}
