/** What precision 'auto' chooses with each kernel table: a table that only emulates bfloat16 multiplies float32 instead. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import t from 'tap'
import { cpuInfo } from '../../lib/index.js'

const index = new URL('../../lib/index.js', import.meta.url).href

/** The precisions whose prediction of the bundled model, which has 16-bit weights, equals that of 'auto' bit for bit. */
async function sameAsAutomatic(kernels: string): Promise<string[]> {
  const source = `
    import { Unet, bundledModelPath, openModel } from ${JSON.stringify(index)}
    const { unet } = await openModel(bundledModelPath())
    const predict = async (precision) => {
      unet.source.precision = precision
      const model = await Unet.load(unet, { device: 'cpu' })
      const { config } = model
      const shape = [1, config.inChannels, 8, 8], text = [1, 8, config.contextWidth]
      const wave = (shape) => new Float32Array(shape.reduce((a, b) => a * b)).map((_, i) => Math.sin(i))
      const input = { timestep: 400, latents: { data: wave(shape), shape }, context: { data: wave(text), shape: text } }
      const { data } = await model.predict(input)
      await model.dispose()
      return Buffer.from(data.buffer).toString('hex')
    }
    const automatic = await predict('auto')
    for (const precision of ['f32', 'bf16', 'int8'])
      if (await predict(precision) === automatic) console.log(precision)`
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', source], {
    env: { ...process.env, NODE_DIFFUSION_KERNELS: kernels },
  })
  return stdout.trim().split('\n')
}

t.test('16-bit weights', async (t) => {
  // Tables without products in bfloat16 multiply float32 where that is asked for.
  const expected: Record<string, string[]> = {
    ref: ['f32'],
    avx512: [],
    'avx2-vnni': ['f32', 'bf16'],
    avx2: ['f32', 'bf16'],
  }
  for (const kernels of cpuInfo().kernels) {
    const same = await sameAsAutomatic(kernels)
    // avx512 and Arm's tables have bfloat16 on some CPUs.
    if (expected[kernels]?.length) t.same(same, expected[kernels], kernels)
    else t.ok(same.includes('bf16'), `${kernels}: ${same}`)
  }
})
