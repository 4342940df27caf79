/** Several processes and threads on one GPU, and several GPUs in one process: none of them disturbs another. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import { DiffusionPipeline } from '../../lib/index.js'
import { quick } from '../pipeline/support.js'
import { emulatedEnvironment, emulatorBuilt, emulatorExpected, inProcess } from './emulated.js'

const skip = !emulatorBuilt && !emulatorExpected
const environment = skip ? {} : { ...emulatedEnvironment(), ND_EMULATED_DEVICES: '2' }
Object.assign(process.env, environment)

const library = new URL('../../lib/index.js', import.meta.url).href
const one = { ...quick, steps: 1 }
/** Draws without end, and says when the first step is done. */
const endless = (say: string) => `
  import { DiffusionPipeline } from ${JSON.stringify(library)}
  import { parentPort } from 'node:worker_threads'
  const pipe = await DiffusionPipeline.load(undefined, { device: 'cuda' })
  await pipe.generate({ ...${JSON.stringify(quick)}, steps: 1000, onStep: () => void ${say} })`

t.test('a process that is killed', { skip }, async (t) => {
  await using pipe = await DiffusionPipeline.load(undefined, { device: 'cuda' })
  const expected = (await pipe.generate(one)).images[0].data
  const other = spawn(
    process.execPath,
    ['--input-type=module', '-e', endless('process.stdout.write("step")')],
    {
      env: { ...process.env, ...environment },
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  await once(other.stdout, 'data')
  const during = pipe.generate(one)
  other.kill('SIGKILL')
  const [, signal] = (await once(other, 'exit')) as [number | null, string]
  t.equal(signal, 'SIGKILL')
  t.same((await during).images[0].data, expected, 'a call during which it dies')
  t.same((await pipe.generate(one)).images[0].data, expected, 'and the next one')
})

t.test('a worker thread that is terminated', { skip }, async (t) => {
  await using pipe = await DiffusionPipeline.load(undefined, { device: 'cuda' })
  const expected = (await pipe.generate(one)).images[0].data
  const worker = new Worker(
    new URL(`data:text/javascript,${encodeURIComponent(endless('parentPort.postMessage("step")'))}`),
  )
  await once(worker, 'message')
  const during = pipe.generate(one)
  await worker.terminate()
  t.same((await during).images[0].data, expected, 'a call meanwhile')
  t.same((await pipe.generate(one)).images[0].data, expected, 'and the next one')
})

t.test('two GPUs in one process', { skip }, async (t) => {
  await using first = await DiffusionPipeline.load(undefined, { device: 'cuda:0' })
  await using second = await DiffusionPipeline.load(undefined, { device: 'cuda:1' })
  t.match([first.device, second.device, second.unet.device], ['cuda:0', 'cuda:1', 'cuda:1'])
  const [a, b] = await Promise.all([first.generate(one), second.generate(one)])
  t.same(a.images[0].data, b.images[0].data, 'side by side')
  await second.dispose()
  t.same((await first.generate(one)).images[0].data, a.images[0].data, 'after the other has been closed')
})

t.test("'auto' takes the GPU that has room", { skip }, async (t) => {
  // The first pipeline leaves too little of the first GPU's memory for the next one.
  const found = await inProcess(
    { ...environment, ND_EMULATED_MEMORY_MB: '693' },
    `const taken = []
     for (let i = 0; i < 3; i++) taken.push(await nd.DiffusionPipeline.load())
     return taken.map(({ device, deviceReason }) => [device, deviceReason ?? ''])`,
  )
  t.match(found, [
    ['cuda:0', ''],
    ['cuda:1', ''],
    ['cpu', /^The model needs about .* of GPU memory, and Emulated GPU has /],
  ])
})
