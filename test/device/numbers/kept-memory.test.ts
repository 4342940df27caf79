/** Memory and graphs that are kept from one picture to the next: pictures are those of a process that keeps nothing. */
import t from 'tap'
import { emulatedEnvironment, emulatorBuilt, emulatorExpected, inProcess } from '../emulated.js'

const skip = !emulatorBuilt && !emulatorExpected

/** Runs whose tensors lie where those of earlier runs did, of other prompts, sizes and batches; one is cancelled. */
const draw = `
  const { createHash } = await import('node:crypto')
  const pipe = await nd.DiffusionPipeline.load(undefined, { device: 'cuda' })
  const small = { width: 64, height: 64, steps: 3 }
  const image = (await pipe.generate({ ...small, prompt: 'a red apple', seed: 5 })).images[0]
  const one = { ...small, prompt: 'a red apple', seed: 1 }
  const runs = [
    one,
    { ...one, prompt: 'a blue cat' },
    { ...one, prompt: 'a blue cat', negativePrompt: 'a red apple' },
    { ...one, negativePrompt: 'a blue cat' },
    { ...one, guidanceScale: 1 },
    { ...one, batchSize: 2 },
    { ...one, width: 128 },
    { ...one, image, strength: 0.7 },
    { ...one, image, mask: { data: new Float32Array(64 * 64).fill(1, 2048), shape: [1, 1, 64, 64] } },
    { ...one, deepCache: { interval: 2 }, steps: 5 },
    { ...one, deepCache: { interval: 2 }, steps: 5, prompt: 'a blue cat' },
    { ...one, tokenMerging: 0.5 },
    { ...one, scheduler: 'euler-a' },
    { ...one, scheduler: nd.createScheduler('euler', 3, pipe.model.schedule) },
    one,
  ]
  const hashes = []
  for (const [i, options] of runs.entries()) {
    const { images } = await pipe.generate(options)
    hashes.push(images.map(({ data }) => createHash('sha256').update(data).digest('hex').slice(0, 8)).join())
    if (i % 5 !== 3) continue
    const abort = new AbortController()
    await pipe.generate({ ...options, signal: abort.signal, onStep: () => abort.abort() }).catch(() => {})
  }
  // Two runs that take turns.
  const [a, b] = [one, { ...one, prompt: 'a blue cat' }].map((options) => pipe.steps(options))
  for (let i = 0; i <= small.steps; i++)
    for (const steps of [a, b]) {
      const { done, value } = await steps.next()
      if (done) hashes.push(createHash('sha256').update(value.images[0].data).digest('hex').slice(0, 8))
    }
  await pipe.dispose()
  return hashes`

t.test('pictures one after the other', { skip }, async (t) => {
  const environment = {
    ...emulatedEnvironment(),
    NODE_DIFFUSION_CUDA_TILES: '0',
    NODE_DIFFUSION_CUDA_WGMMA: '0',
    NODE_DIFFUSION_CUDA_OVERLAP: '0',
  }
  const hashes = (await inProcess(environment, draw)) as string[]
  t.same(hashes, await inProcess({ ...environment, NODE_DIFFUSION_CUDA_KEEP: '0' }, draw))
  t.equal(hashes.length, 17)
  t.equal(hashes[0], hashes[14], 'the same run again')
  t.same(hashes.slice(15), hashes.slice(0, 2), 'in turns')
  t.equal(new Set(hashes).size, 14, 'all others differ')
})
