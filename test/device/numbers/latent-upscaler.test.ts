/** The ×2 latent upscaler on an emulated GPU, whose UNet has kernels of its own. */
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { bundledModelPath, DiffusionPipeline } from '../../../lib/index.js'
import { packageRoot } from '../../../lib/package-root.js'
import { emulatedEnvironment, emulatorBuilt, emulatorExpected, psnr } from '../emulated.js'

const skip = !emulatorBuilt && !emulatorExpected
Object.assign(process.env, skip ? {} : emulatedEnvironment())

const fixtures = join(packageRoot(), 'test', 'fixtures', 'latent-upscaler')

t.test('pictures', { skip }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'node-diffusion-latent-upscaler-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  cpSync(join(fixtures, 'upscaler'), folder, { recursive: true })
  cpSync(join(bundledModelPath(), 'tokenizer'), join(folder, 'tokenizer'), { recursive: true })
  await using cpu = await DiffusionPipeline.load(folder, { device: 'cpu', precision: 'f32' })
  await using gpu = await DiffusionPipeline.load(folder, { device: 'auto' })
  t.match([gpu.unet.device, gpu.vae.device], ['cuda:0', 'cuda:0'])
  const options = {
    prompt: 'noto pizza',
    image: join(fixtures, 'photo.png'),
    steps: 2,
    guidanceScale: 4,
    seed: 1,
  }
  const [expected] = (await cpu.generate(options)).images
  const [image] = (await gpu.generate(options)).images
  t.ok(psnr(image, expected) >= 35, `${psnr(image, expected)} dB`)
  t.same((await gpu.generate(options)).images[0].data, image.data, 'again')
})
