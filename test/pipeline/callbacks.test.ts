/** onStep that calls its own pipeline. A run waits for the promise that onStep returns, so it must not wait for that run. */
import t from 'tap'
import { DiffusionPipeline, type GenerateOptions } from '../../lib/index.js'
import { quick } from './support.js'

const pipe = await DiffusionPipeline.load()
const other = await DiffusionPipeline.load()
t.teardown(() => Promise.all([pipe.dispose(), other.dispose()]))

const once: GenerateOptions = { ...quick, steps: 1, width: 32, height: 32 }
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** A run of `pipe` with this onStep. */
const run = (onStep: () => unknown) => pipe.generate({ ...once, onStep })

t.test('a run that waits for another run of its pipeline', { timeout: 60_000 }, async (t) => {
  const waits: Record<string, () => unknown> = {
    'returns its promise': () => pipe.generate(once),
    'in a nested promise': () => Promise.all([wait(1), wait(1).then(() => pipe.generate(once))]),
    'after an await': async () => {
      await wait(5)
      await pipe.generate(once)
    },
    'steps()': () => pipe.steps(once).next(),
    'through another pipeline': () => other.generate({ ...once, onStep: () => pipe.generate(once) }),
    'behind runs that wait': () => {
      queued.push(pipe.generate(once).catch(() => {}))
      return pipe.generate(once)
    },
  }
  const queued: Promise<unknown>[] = []
  for (const [name, onStep] of Object.entries(waits)) {
    const outside = wait(0).then(() => pipe.generate(once))
    await t.rejects(
      run(onStep),
      { name: 'DiffusionError', code: 'DEADLOCK', message: /the onStep in which it was made/ },
      name,
    )
    t.equal((await outside).images.length, 1, 'other calls have their turn')
    await Promise.all(queued)
  }
})

t.test('what onStep may do', { timeout: 60_000 }, async (t) => {
  const later: Promise<unknown>[] = []
  const allowed: Record<string, () => unknown> = {
    'start a run without waiting for it': () => {
      later.push(pipe.generate(once))
    },
    'wait for a component': () => pipe.vae.decode({ data: new Float32Array(4 * 8 * 8), shape: [1, 4, 8, 8] }),
    'wait for another pipeline': () => other.generate(once),
    'catch the error': () => pipe.generate(once).catch(() => {}),
    'start something that calls later': () => {
      later.push(wait(50).then(() => pipe.generate(once)))
    },
  }
  for (const [name, onStep] of Object.entries(allowed)) t.equal((await run(onStep)).images.length, 1, name)
  t.equal((await Promise.all(later)).length, 2)
  const disposed = await DiffusionPipeline.load()
  await t.rejects(disposed.generate({ ...once, onStep: () => disposed.dispose() }), { code: 'DISPOSED' })
})
