/** A worker, the process or a run that ends at an inconvenient moment. */
import { spawn } from 'node:child_process'
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
  for (const delay of [0, 2, 4, 8, 16]) {
    const signal = AbortSignal.timeout(delay)
    const loading = DiffusionPipeline.load(undefined, { signal }).then(
      (pipe) => pipe.dispose(),
      (error: unknown) => error,
    )
    const error = await loading
    if (error) t.match(error, { name: 'TimeoutError' }, `loading, after ${delay} ms`)
  }
  await using pipe = await DiffusionPipeline.load()
  const image = { data: new Float32Array(3 * 128 * 128), shape: [1, 3, 128, 128] }
  const options = { ...quick, image, steps: 2, strength: 1, width: 128, height: 128 }
  const began = performance.now()
  await pipe.generate(options)
  const whole = performance.now() - began
  for (let part = 0; part < 8; part++) {
    const controller = new AbortController()
    setTimeout(() => controller.abort(reason), (part / 8) * whole)
    const ended = await pipe.generate({ ...options, signal: controller.signal }).then(
      () => undefined,
      (error: unknown) => error,
    )
    if (ended) t.equal(ended, reason, `after ${part} eighths`)
  }
  t.equal((await pipe.generate(quick)).images.length, 1)
})
