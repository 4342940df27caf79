/** Memory of a GPU: what is said of a run that does not fit, and what estimate() says of one before it is loaded. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { bytesAllowed } from '../../lib/options/index.js'
import { emulatedEnvironment, emulatorBuilt, emulatorExpected, inProcess } from './emulated.js'

const skip = !emulatorBuilt && !emulatorExpected
const environment = skip ? {} : emulatedEnvironment()

t.test('a run that is too large for the GPU that auto took', { skip }, async (t) => {
  const result = await inProcess(
    { ...environment, ND_EMULATED_MEMORY_MB: '800' },
    `const pipe = await nd.DiffusionPipeline.load(undefined, { device: 'auto' })
     const run = (options) =>
       codeOf(pipe.generate({ prompt: 'a', steps: 1, outputType: 'latents', width: 64, height: 64, ...options }))
     const large = await run({ width: 2048, height: 2048, batchSize: 4 })
     const { vae } = pipe
     const [h, w] = [1500, 1500]
     const decoded = await codeOf(
       vae.decode({ data: new Float32Array(4 * h * w), shape: [1, 4, h, w] }, { tiling: false }))
     const small = await run({ batchSize: 2 })
     await pipe.dispose()
     return { device: pipe.device, large, decoded, small }`,
  )
  t.match(result, {
    device: 'cuda:0',
    large:
      /^OUT_OF_MEMORY: 4 × 2048×2048 .* would need .* are free on cuda:0\. .* smaller width, .* device: 'cpu'/,
    decoded: /^OUT_OF_MEMORY: Could not allocate \d+ MB on Emulated GPU.* device 'cpu'\.$/,
    small: 'none',
  })
})

t.test('memory is free when a promise says so', { skip }, async (t) => {
  const result = await inProcess(
    environment,
    `const load = () => nd.DiffusionPipeline.load(undefined, { device: 'cuda' })
     const watch = await load()
     const free = () => watch.unet.freeDeviceMemory()
     const options = { prompt: 'a', outputType: 'latents', width: 64, height: 64 }
     const seen = []
     for (let i = 0; i < 5; i++) {
       const before = free()
       const pipe = await load()
       await pipe.generate({ ...options, steps: 1 })
       const idle = free()
       await pipe.generate({ ...options, steps: 1 })
       seen.push(idle - free())
       const signal = AbortSignal.timeout(20)
       seen.push(await pipe.generate({ ...options, steps: 500, signal }).catch(({ name }) => name))
       await pipe.dispose()
       seen.push(before - free())
     }
     return seen`,
  )
  t.same(result, Array.from({ length: 5 }, () => [0, 'TimeoutError', 0]).flat())
})

/** Nothing is tried when the GPU is opened: that takes memory, too. */
const untried = {
  ...environment,
  NODE_DIFFUSION_CUDA_TILES: '0',
  NODE_DIFFUSION_CUDA_WGMMA: '0',
  NODE_DIFFUSION_CUDA_OVERLAP: '0',
}

t.test('memory that is kept for the next picture', { skip }, async (t) => {
  const report = join(t.testdir(), 'report.json')
  const draw = (more: Record<string, string>) =>
    inProcess(
      { ...untried, ND_EMULATED_REPORT: report, ...more },
      `const pipe = await nd.DiffusionPipeline.load(undefined, { device: 'cuda' })
       const free = () => pipe.unet.freeDeviceMemory()
       const before = free()
       for (let seed = 0; seed < 3; seed++)
         await pipe.generate({ prompt: 'a', width: 64, height: 64, steps: 2, seed })
       const taken = before - free()
       await pipe.dispose()
       return taken`,
    )
  const counts = () => JSON.parse(readFileSync(report, 'utf8')) as Record<string, number>
  t.equal(await draw({}), 0, 'it counts as free')
  const kept = counts()
  t.equal(await draw({ NODE_DIFFUSION_CUDA_KEEP: '0' }), 0)
  const nothing = counts()
  t.equal(kept.bytes, 0, 'none is left')
  t.ok(kept.allocations < nothing.allocations - 20, `${kept.allocations}, ${nothing.allocations} without`)
  t.ok(kept.peak <= nothing.peak + 2 ** 33 / 32, 'a 32nd of 8 GiB at most')
})

t.test('the autoencoder works in bands where memory is short', { skip }, async (t) => {
  const result = await inProcess(
    { ...untried, ND_EMULATED_MEMORY_MB: '4' },
    `const vae = await nd.AutoencoderKL.load(nd.bundledModelPath(), { device: 'cuda' })
     const [h, w] = [28, 28]
     const latents = { data: Float32Array.from({ length: 4 * h * w }, (_, i) => Math.sin(i)), shape: [1, 4, h, w] }
     const whole = await codeOf(vae.decode(latents, { tiling: false }))
     const { data } = await vae.decode(latents)
     const bands = await vae.decode(latents, { tiling: true })
     const most = data.reduce((most, value, i) => Math.max(most, Math.abs(value - bands.data[i])), 0)
     await vae.dispose()
     return { whole, size: data.length, most }`,
  )
  t.match(result, { whole: /^OUT_OF_MEMORY: /, size: 3 * 112 * 112 })
  const { most } = result as { most: number }
  t.ok(most < 0.02, `bands differ by ${most}`)
})

t.test('what the autoencoder keeps from its last call counts as free', { skip }, async (t) => {
  const result = await inProcess(
    { ...untried, ND_EMULATED_MEMORY_MB: '3' },
    `const vae = await nd.AutoencoderKL.load(nd.bundledModelPath(), { device: 'cuda' })
     const latents = { data: Float32Array.from({ length: 4 * 16 * 16 }, (_, i) => Math.sin(i)), shape: [1, 4, 16, 16] }
     const before = vae.freeDeviceMemory()
     const [first, second] = [await vae.decode(latents), await vae.decode(latents)]
     const kept = before - vae.freeDeviceMemory()
     await vae.dispose()
     return { half: kept > before / 2, same: first.data.every((value, i) => value === second.data[i]) }`,
  )
  t.same(result, { half: true, same: true })
})

t.test('a run decodes in bands where the whole image would not fit', { skip }, async (t) => {
  const result = await inProcess(
    { ...untried, ND_EMULATED_MEMORY_MB: '21' },
    `const pipe = await nd.DiffusionPipeline.load(undefined, { device: 'cuda' })
     const size = { guidanceScale: 1, width: 128, height: 128 }
     const options = { ...size, prompt: 'a', steps: 1, seed: 1 }
     const whole = await codeOf(pipe.generate({ ...options, vaeTiling: false }))
     const fits = pipe.memoryNeeded(size).working <= pipe.unet.freeDeviceMemory()
     const { images } = await pipe.generate(options)
     await pipe.dispose()
     return { whole, fits, width: images[0].width }`,
  )
  t.match(result, { whole: /^OUT_OF_MEMORY: /, fits: false, width: 128 })
})

t.test('the share of a GPU that the autoencoder may take', async (t) => {
  const megapixel = 1024 ** 2
  const allowed = (gpu?: { total: number; free?: number }, pixels = megapixel) =>
    bytesAllowed(undefined, { pixels, gpu })
  t.equal(allowed(), 700e6, 'on the CPU')
  t.equal(allowed({ total: 2e9 }), 700e6, 'a small GPU')
  t.equal(allowed({ total: 24e9 }), 4e9, 'a large GPU')
  t.equal(allowed({ total: 24e9 }, 16 * megapixel), 300 * 16 * megapixel, 'a large image')
  t.equal(allowed({ total: 24e9, free: 1e9 }), 0.9e9, 'no more than is free')
  t.equal(allowed({ total: 24e9, free: 0 }), 0, 'nothing is free')
  for (const [option, bytes] of [
    [true, 0],
    [false, null],
    [{ bytes: 5 }, 5],
  ] as const)
    t.equal(bytesAllowed(option, { pixels: megapixel, gpu: { total: 24e9, free: 1 } }), bytes, 'as asked for')
})

interface Peak {
  memory: { weights: number; working: number; total: number }
  seconds?: object
  needed: { weights: number; working: number; total: number }
}

t.test('estimate()', { skip }, async (t) => {
  for (const options of [
    { width: 64, height: 64 },
    { width: 192, height: 128, batchSize: 2, guidanceScale: 1 },
  ]) {
    const report = join(t.testdir(), 'report.json')
    const peak = () => (JSON.parse(readFileSync(report, 'utf8')) as { peak: number }).peak
    const { memory, seconds, needed } = (await inProcess(
      { ...environment, ND_EMULATED_REPORT: report, NODE_DIFFUSION_CUDA_KEEP: '0' },
      `const options = ${JSON.stringify(options)}
       const { memory, seconds } = await nd.DiffusionPipeline.estimate(undefined, { device: 'cuda' }, options)
       const pipe = await nd.DiffusionPipeline.load(undefined, { device: 'cuda' })
       const needed = pipe.memoryNeeded(options)
       await pipe.generate({ prompt: 'a', steps: 2, ...options })
       await pipe.dispose()
       return { memory, seconds, needed }`,
    )) as Peak
    t.equal(seconds, undefined)
    t.same(memory, needed, 'as the loaded pipeline says')
    t.ok(memory.total >= peak() && memory.total < 1.05 * peak(), `${memory.total} for ${peak()}`)
    await inProcess(
      // The first look at the tiles of products would take memory for a moment.
      { ...environment, ND_EMULATED_REPORT: report, NODE_DIFFUSION_CUDA_TILES: '0' },
      `await nd.DiffusionPipeline.estimate(undefined, { device: 'cuda' }, ${JSON.stringify(options)})`,
    )
    t.equal(peak(), 0, 'nothing is allocated for an estimate')
  }
  t.match(
    await inProcess(
      environment,
      `return codeOf(nd.DiffusionPipeline.estimate(undefined, { device: 'cuda:3' }))`,
    ),
    /^DEVICE_UNAVAILABLE/,
  )
})
