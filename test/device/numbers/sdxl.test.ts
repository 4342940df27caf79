/** Stable Diffusion XL on an emulated GPU, its autoencoder included, whose activations exceed half precision elsewhere. */
import { cpSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { bundledModelPath, DiffusionPipeline } from '../../../lib/index.js'
import { packageRoot } from '../../../lib/package-root.js'
import { emulatedEnvironment, emulatorBuilt, emulatorExpected, psnr } from '../emulated.js'

const skip = !emulatorBuilt && !emulatorExpected
Object.assign(process.env, skip ? {} : emulatedEnvironment())

t.test('pictures of SDXL', { skip }, async (t) => {
  const base = join(t.testdir(), 'base')
  cpSync(join(packageRoot(), 'test', 'fixtures', 'sdxl', 'base'), base, { recursive: true })
  for (const name of ['tokenizer', 'tokenizer_2'])
    cpSync(join(bundledModelPath(), 'tokenizer'), join(base, name), { recursive: true })
  // Its activations are large, those of the base model's own autoencoder are not.
  const vae = join(packageRoot(), 'test', 'fixtures', 'wide-vae')
  for (const options of [{}, { vae }]) {
    await using cpu = await DiffusionPipeline.load(base, { device: 'cpu', precision: 'f32', ...options })
    await using gpu = await DiffusionPipeline.load(base, { device: 'cuda', ...options })
    t.match([gpu.device, gpu.vae.device], ['cuda:0', 'cuda:0'])
    const request = { prompt: 'noto pizza', steps: 2, seed: 1, width: 64, height: 64 }
    const [expected] = (await cpu.generate(request)).images
    const [image] = (await gpu.generate(request)).images
    t.ok(psnr(image, expected) >= 40, `${psnr(image, expected)} dB`)
  }
})
