/**
 * Hopper's kernels are tried when a model is loaded, and what the trial finds is told and acted upon. The emulator answers with
 * times of our choosing; what is compared is computed.
 */
import t from 'tap'
import { quick } from '../pipeline/support.js'
import { emulatedEnvironment, emulatorBuilt, emulatorExpected, inProcess } from './emulated.js'

const skip = !emulatorBuilt && !emulatorExpected
const environment = skip ? {} : emulatedEnvironment()
const hopper = {
  ND_EMULATED_CAPABILITY: '90',
  ND_EMULATED_HOPPER_PERCENT: '200',
  NODE_DIFFUSION_CUDA_TILES: '0', // the emulator's times are not about them
}
const options = { ...quick, steps: 1, outputType: 'latents' }

interface Found {
  overlap?: string
  before: string
  after: string
  latents: number[]
}

const draw = `
  const note = async () => (await nd.listDevices()).devices[1].hopperKernels ?? 'unknown'
  const before = await note()
  const pipe = await nd.DiffusionPipeline.load(undefined, { device: 'cuda' })
  const { latents } = await pipe.generate(${JSON.stringify(options)})
  await pipe.dispose()
  const overlap = (await nd.listDevices()).devices[1].kernelOverlap
  return { overlap, before, after: await note(), latents: [...latents.data] }`

const found = (more: Record<string, string>) => inProcess({ ...environment, ...more }, draw) as Promise<Found>

t.test('what it finds, and what is drawn then', { skip }, async (t) => {
  const other = await found({ ...hopper, ND_EMULATED_CAPABILITY: '89' })
  t.match(other, { before: 'unknown', after: 'unknown' }, 'another GPU')

  const fast = await found(hopper)
  t.equal(fast.before, 'unknown', 'nothing is tried for a list')
  t.match(fast.after, /^on: products \d\.\d times as fast, attention \d\.\d times as fast$/)
  const largest = Math.max(...other.latents.map(Math.abs))
  const worst = Math.max(...other.latents.map((x, i) => Math.abs(x - fast.latents[i])))
  t.ok(worst <= 0.02 * largest, `off by ${worst} of ${largest}`)
  t.notSame(fast.latents, other.latents, 'they are used')

  for (const [more, note] of [
    [
      { ND_EMULATED_HOPPER_PERCENT: '10' },
      /^off: slower than the kernels for all GPUs \(trial 1 of 3; the next load tries again\)$/,
    ],
    [{ ND_EMULATED_FAIL_LAUNCH: '4' }, /^off: .*CUDA_ERROR_LAUNCH_FAILED/],
    [{ NODE_DIFFUSION_CUDA_WGMMA: '0' }, /^off: NODE_DIFFUSION_CUDA_WGMMA says so$/],
  ] as const) {
    const off = await found({ ...hopper, ...more })
    t.match(off.after, note)
    t.same(off.latents, other.latents, 'as on another GPU')
  }
  const forced = await found({ ...hopper, ND_EMULATED_FAIL_LAUNCH: '', NODE_DIFFUSION_CUDA_WGMMA: '1' })
  t.equal(forced.after, 'on: NODE_DIFFUSION_CUDA_WGMMA says so')
})

t.test('overlapping launches', { skip }, async (t) => {
  const off = { ...hopper, NODE_DIFFUSION_CUDA_WGMMA: '0' }
  const plain = await found(off)
  t.equal(plain.overlap, 'off: no faster', 'the emulator has no use for them')
  const overlapping = await found({ ...off, NODE_DIFFUSION_CUDA_OVERLAP: '1' })
  t.equal(overlapping.overlap, 'on: NODE_DIFFUSION_CUDA_OVERLAP says so')
  t.same(overlapping.latents, plain.latents)
  const before = await found({ ...off, ND_EMULATED_CAPABILITY: '89', NODE_DIFFUSION_CUDA_OVERLAP: '1' })
  t.equal(before.overlap, undefined, 'not on GPUs before Hopper')
})

t.test('a worker that ends, and a load that is aborted', { skip }, async (t) => {
  const result = await inProcess(
    { ...environment, ...hopper },
    `const { Worker } = await import('node:worker_threads')
     const library = ${JSON.stringify(new URL('../../lib/index.js', import.meta.url).href)}
     const code = 'import { parentPort } from "node:worker_threads";' +
       'import { DiffusionPipeline } from ' + JSON.stringify(library) + ';' +
       'const loading = DiffusionPipeline.load(undefined, { device: "cuda" });' +
       'setTimeout(() => parentPort.postMessage("loading"), 50); await loading'
     const worker = new Worker(new URL('data:text/javascript,' + encodeURIComponent(code)))
     await new Promise((resolve) => worker.once('message', resolve))
     await worker.terminate()
     const aborter = new AbortController()
     setTimeout(() => aborter.abort(), 50)
     const aborted = await nd.DiffusionPipeline.load(undefined, { device: 'cuda', signal: aborter.signal })
       .then(() => 'loaded', ({ name }) => name)
     ${draw.replace('return {', 'return { aborted,')}`,
  )
  t.match(result, { after: /^on: products \d\.\d times as fast/ })
  t.match((result as { aborted: string }).aborted, /^(AbortError|loaded)$/)
})
