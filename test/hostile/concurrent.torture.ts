/**
 * Up to 200 calls at once on a few pipelines, each aborted at a random moment or not, while pipelines are disposed of and
 * loaded again. A call gives the result that it gives by itself, or the abort's reason, or DISPOSED.
 */
import { createHash } from 'node:crypto'
import { setTimeout as wait } from 'node:timers/promises'
import { DiffusionPipeline, type GenerateOptions } from '../../lib/index.js'
import { DelayWatch, emptyResult, Random, heldBytes, leakedBytes, settled, type Result } from './harness.js'

export const name = 'concurrent calls, aborts, disposals'
export const counts = { small: 24, full: 2000 }

const concurrent = 200
const pipelines = 3
/** Milliseconds. Calls wait for all those before them. */
const patience = 180_000

type Call = (pipe: DiffusionPipeline, signal?: AbortSignal) => Promise<Float32Array | Uint8Array>

function calls(): Call[] {
  const picture =
    (options: GenerateOptions): Call =>
    async (pipe, signal) =>
      (await pipe.generate({ ...options, signal })).images[0].data
  const latents = { data: new Float32Array(4 * 64).map((_, i) => Math.sin(i)), shape: [1, 4, 8, 8] }
  const image = { data: new Float32Array(3 * 64 * 64).map((_, i) => Math.cos(i)), shape: [1, 3, 64, 64] }
  return [
    picture({ prompt: 'noto pizza', steps: 1, seed: 1 }),
    picture({ prompt: 'flat rocket', steps: 2, seed: 2, batchSize: 2, guidanceScale: 4 }),
    picture({ prompt: 'noto crab', steps: 2, seed: 3, deepCache: { interval: 2 } }),
    picture({ prompt: 'noto apple', steps: 1, seed: 4, image }),
    async (pipe, signal) => (await pipe.vae.decode(latents, { signal })).data,
    async (pipe, signal) => (await pipe.vae.encode(image, { signal })).mean.data,
    async (pipe, signal) => (await pipe.textEncoder.encode(pipe.tokenizer.encode('a'), { signal })).data,
  ]
}

const digest = (data: Float32Array | Uint8Array) =>
  createHash('sha1')
    .update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    .digest('base64')

export async function run({ count, seed }: { count: number; seed: number }): Promise<Result> {
  const random = new Random(seed)
  const all = calls()
  const load = () => DiffusionPipeline.load()
  const alone = await load()
  const expected: string[] = []
  for (const call of all) expected.push(digest(await call(alone)))
  await alone.dispose()

  const watch = new DelayWatch()
  const result = emptyResult()
  const reason = new Error('aborted by the harness')

  async function one(id: number, pipe: DiffusionPipeline): Promise<void> {
    const which = random.below(all.length)
    const abort = random.below(3) > 0 ? new AbortController() : undefined
    if (abort) setTimeout(() => abort.abort(reason), random.next() ** 3 * 2000)
    const outcome = await settled(all[which](pipe, abort?.signal), patience)
    result.tried++
    const failed = (why: string) => result.failures.push(`seed ${seed}, call ${id} (kind ${which}): ${why}`)
    if (!outcome) {
      result.crashed++
      failed('has not settled')
    } else if ('value' in outcome) {
      if (digest(outcome.value) !== expected[which]) failed('another result than by itself')
    } else if (outcome.error !== reason && (outcome.error as { code?: string }).code !== 'DISPOSED') {
      failed(String(outcome.error))
    }
  }

  async function round(first: number, size: number): Promise<void> {
    const pipes = await Promise.all(Array.from({ length: pipelines }, load))
    watch.start()
    const running: Promise<void>[] = []
    while (running.length < size) {
      running.push(one(first + running.length, random.pick(pipes)))
      // Starting all of them takes the harness itself some time.
      if (running.length % 8 === 0) await new Promise(setImmediate)
    }
    const disposing = pipes.map(async (pipe) => {
      await wait(random.below(4) === 0 ? random.next() * 1000 : 0)
      if (random.below(2) === 0) await pipe.dispose()
    })
    await Promise.all([...running, ...disposing])
    watch.pause()
    await Promise.all(pipes.map((pipe) => pipe.dispose()))
  }

  const held: number[] = []
  for (let first = 0; first < count; first += concurrent) {
    await round(first, Math.min(concurrent, count - first))
    held.push(await heldBytes())
  }
  result.leaked = leakedBytes(held)
  result.delay = watch.delay
  return result
}
