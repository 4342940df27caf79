/** A worker, the process or a run that ends at an inconvenient moment. */
import { spawn } from 'node:child_process'
import { setTimeout as wait } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import { DiffusionPipeline, type GenerateOptions } from '../../lib/index.js'
import { quick } from '../pipeline/support.js'

const endless: GenerateOptions = { ...quick, steps: 1000, width: 128, height: 128 }
const library = JSON.stringify(new URL('../../lib/index.js', import.meta.url).href)
const source = `
  import { parentPort } from 'node:worker_threads'
  import { DiffusionPipeline } from ${library}
  const say = (what) => parentPort ? parentPort.postMessage(what) : console.log(what)
  const pipe = await DiffusionPipeline.load()
  say('loaded')
  await pipe.generate({ ...${JSON.stringify(endless)}, onStep: () => say('step') })`

t.test('a worker is terminated', async (t) => {
  for (const moment of ['start', 'loaded', 'step']) {
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`))
    await new Promise<void>((resolve, reject) => {
      worker.on('error', reject)
      if (moment === 'start') setTimeout(resolve, 100)
      else worker.on('message', (said) => said === moment && resolve())
    })
    t.type(await worker.terminate(), 'number', `at ${moment}`)
  }
  await using pipe = await DiffusionPipeline.load()
  t.equal((await pipe.generate(quick)).images.length, 1, 'other threads are not affected')
})

t.test('the process ends during a run', async (t) => {
  for (const moment of ['loaded', 'step']) {
    const code = source.replace(
      'console.log(what)',
      `what === '${moment}' && setTimeout(process.exit, 20, 7)`,
    )
    const child = spawn(process.execPath, ['--input-type=module', '-e', code], { stdio: 'ignore' })
    const ended = await new Promise((resolve) => child.on('exit', (code, signal) => resolve(code ?? signal)))
    t.equal(ended, 7, `at ${moment}`)
  }
})

t.test('aborts in every phase of a run', async (t) => {
  const reason = new Error('enough')
  /** Aborts `call` after `delay` milliseconds, or at once if there is none. It must not end in another way. */
  const abort = async (call: (signal: AbortSignal) => Promise<unknown>, delay: number, phase: string) => {
    const controller = new AbortController()
    const running = call(controller.signal)
    let [finished, began] = [false, 0]
    running.then(
      () => (finished = began === 0),
      () => {},
    )
    await wait(delay)
    began = performance.now()
    controller.abort(reason)
    if (finished) return false
    await t.rejects(running as Promise<void>, { message: 'enough' }, phase)
    const spent = performance.now() - began
    // Within 100 ms on a machine that has nothing else to do. Most of a run, which takes seconds there, would take longer.
    t.ok(spent < 3000, `${phase}: rejected after ${Math.round(spent)} ms`)
    return true
  }

  const load = (signal: AbortSignal) =>
    DiffusionPipeline.load(undefined, { signal }).then((pipe) => pipe.dispose())
  let aborted = 0
  for (const delay of [0, 2, 4, 8, 16]) if (await abort(load, delay, `loading, after ${delay} ms`)) aborted++
  t.ok(aborted > 0, 'loading takes longer than no time at all')

  await using pipe = await DiffusionPipeline.load()
  const image = { data: new Float32Array(3 * 128 * 128), shape: [1, 3, 128, 128] }
  const options = { ...quick, image, steps: 40, strength: 1, width: 128, height: 128 }
  // The fastest of three, so that most of the moments below are within a run.
  let whole = Infinity
  for (let i = 0; i < 3; i++) {
    const began = performance.now()
    await pipe.generate(options)
    whole = Math.min(whole, performance.now() - began)
  }
  const generate = (signal: AbortSignal) => pipe.generate({ ...options, signal })
  let early = 0
  for (let part = 0; part < 8; part++)
    if (await abort(generate, (part / 8) * whole, `after ${part} eighths`)) early++
  t.ok(early >= 2, `${early} of 8 runs were aborted before they ended`)
  t.equal((await pipe.generate(quick)).images.length, 1)
})
