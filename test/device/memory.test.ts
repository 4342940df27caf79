/** Memory of a GPU: what is said of a run that does not fit, and what estimate() says of one before it is loaded. */
import t from 'tap'
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
