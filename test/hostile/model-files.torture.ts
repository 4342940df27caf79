/**
 * Damaged files of every format that is read. Each is refused with a DiffusionError that says what is wrong, or is used. The
 * bytes of a case with a wrong answer are written to a file in the system's temporary folder.
 */
import { writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DiffusionError } from '../../lib/index.js'
import { DelayWatch, emptyResult, heldBytes, leakedBytes, Random, settled, type Result } from './harness.js'
import { makeFormats, type Format } from './model-file-formats.js'
import { describe, objection } from './objection.js'

export const name = 'damaged model files, images and adapters'

/** Number of formats; there are 10,000 cases of each. */
const formatCount = 13
export const counts = { small: 20 * formatCount, full: 10_000 * formatCount }

/** Milliseconds. */
const patience = 60_000
/** Cases at the same time. A file that has just been written is read twice, with a pause in between. */
const concurrent = 10
/** How often memory is measured. */
const measurements = 12

export async function run({ count, seed }: { count: number; seed: number }): Promise<Result> {
  const result = emptyResult()
  const { formats, remove } = await makeFormats()
  if (formats.length !== formatCount) throw new Error(`${formats.length} formats`)
  const watch = new DelayWatch()
  const unhandled = (error: unknown) =>
    result.failures.push(`seed ${seed}: unhandled rejection ${String(error)}`)
  process.on('unhandledRejection', unhandled)

  async function one(i: number, id: number): Promise<void> {
    const random = new Random(seed * 1_000_003 + i)
    const format = formats[i % formats.length]
    const bytes = format.damage(random)
    const outcome = await settled(format.use(bytes, id, random), patience)
    result.tried++
    const why = outcome ? 'error' in outcome && wrong(format, outcome.error) : 'has not settled'
    if (!outcome) result.crashed++
    if (!why) return
    const file = join(tmpdir(), `node-diffusion-case-${seed}-${i}`)
    writeFileSync(file, bytes)
    result.failures.push(`seed ${seed}, case ${i}, ${format.name} (${file}): ${why}`)
  }

  const held: number[] = []
  try {
    watch.start()
    let next = 0
    for (let part = 1; part <= measurements; part++) {
      const end = Math.floor((count * part) / measurements)
      const worker = async (id: number) => {
        while (next < end) await one(next++, id)
      }
      await Promise.all(Array.from({ length: concurrent }, (_, id) => worker(id)))
      held.push(await heldBytes())
    }
    watch.pause()
    result.leaked = leakedBytes(held)
  } finally {
    process.off('unhandledRejection', unhandled)
    remove()
  }
  result.delay = watch.delay
  return result
}

/** Why an error is no answer to a damaged file. */
function wrong({ sizes }: Format, error: unknown): string | undefined {
  const why =
    error instanceof DiffusionError || (sizes && error instanceof RangeError)
      ? objection(error)
      : 'neither used nor refused as damaged'
  return why && `${why}: ${describe(error)}`
}
