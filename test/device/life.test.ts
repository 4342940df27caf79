/** The life of a pipeline on an emulated GPU: cancelled, disposed and shared by threads; and errors during a run. */
import { Worker } from 'node:worker_threads'
import t from 'tap'
import { DiffusionPipeline } from '../../lib/index.js'
import { quick } from '../pipeline/support.js'
import { emulatedEnvironment, emulatorBuilt, emulatorExpected, inProcess } from './emulated.js'

const skip = !emulatorBuilt && !emulatorExpected
const environment = skip ? {} : emulatedEnvironment()
Object.assign(process.env, environment)

const one = { ...quick, steps: 1 }

t.test('life', { skip }, async (t) => {
  const pipe = await DiffusionPipeline.load(undefined, { device: 'cuda' })
  await t.rejects(pipe.generate({ ...one, signal: AbortSignal.timeout(300), steps: 1000 }), {
    name: 'TimeoutError',
  })
  const running = pipe.generate({ ...one, steps: 1000, onStep: () => void pipe.dispose() })
  await t.rejects(running, { code: 'DISPOSED' })
  await pipe.dispose()

  const source = `
    import { DiffusionPipeline } from ${JSON.stringify(new URL('../../lib/index.js', import.meta.url).href)}
    import { parentPort } from 'node:worker_threads'
    const pipe = await DiffusionPipeline.load(undefined, { device: 'cuda' })
    const { images } = await pipe.generate(${JSON.stringify(one)})
    parentPort.postMessage([pipe.device, images[0].data])`
  const draw = () =>
    new Promise<[string, Uint8Array]>((resolve, reject) => {
      const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`))
      worker.on('message', resolve)
      worker.on('error', reject)
    })
  await using here = await DiffusionPipeline.load(undefined, { device: 'cuda' })
  const [mine, theirs] = await Promise.all([here.generate(one), draw()])
  t.same(theirs, ['cuda:0', mine.images[0].data], 'a worker thread shares the GPU')
})

t.test('errors during a run', { skip }, async (t) => {
  const run = (options: object) => `
    const pipe = await nd.DiffusionPipeline.load(undefined, { device: 'cuda' })
    const code = await codeOf(pipe.generate({ prompt: 'a', steps: 1, ...${JSON.stringify(options)} }))
    const next = await codeOf(pipe.generate({ prompt: 'a', steps: 1, outputType: 'latents' }))
    await pipe.dispose()
    const again = await nd.DiffusionPipeline.load(undefined, { device: 'cuda' })
    return { code, next, again: await codeOf(again.generate({ prompt: 'a', steps: 1, outputType: 'latents' })) }`
  t.match(
    await inProcess({ ...environment, ND_EMULATED_MEMORY_MB: '64' }, run({ width: 1024, height: 1024 })),
    {
      code: /^OUT_OF_MEMORY: 1 × 1024×1024 \(batchSize × width×height\) would need .* of GPU memory .* are free on cuda:0\. /,
      next: 'none',
      again: 'none',
    },
    'a picture that is too large is refused, and the pipeline goes on',
  )
  t.match(
    await inProcess({ ...environment, ND_EMULATED_FAIL_LAUNCH: '100' }, run({})),
    { code: /^DEVICE_LOST: .*load them again/, next: /^DEVICE_LOST/, again: 'none' },
    'a lost device comes back when its models are gone',
  )
})
