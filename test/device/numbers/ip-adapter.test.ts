/** IP-Adapters on an emulated GPU: what they make of images stays in its memory. */
import { join } from 'node:path'
import t from 'tap'
import { DiffusionPipeline, type ImagePromptOptions } from '../../../lib/index.js'
import { packageRoot } from '../../../lib/package-root.js'
import { base } from '../../adapters/control-models.js'
import { emulatedEnvironment, emulatorBuilt, emulatorExpected, psnr } from '../emulated.js'

const skip = !emulatorBuilt && !emulatorExpected
Object.assign(process.env, skip ? {} : emulatedEnvironment())

const fixtures = join(packageRoot(), 'test', 'fixtures', 'ip-adapter')

t.test('pictures with IP-Adapters', { skip }, async (t) => {
  const imageEncoder = join(fixtures, '..', 'vision', 'clip')
  const ipAdapters = ['sd1-plain.bin', 'sd1-plus.safetensors'].map((name) => ({
    path: join(fixtures, name),
    imageEncoder,
  }))
  await using cpu = await DiffusionPipeline.load(base.sd1, { device: 'cpu', precision: 'f32', ipAdapters })
  await using gpu = await DiffusionPipeline.load(base.sd1, { device: 'cuda', ipAdapters })
  t.match(gpu.ipAdapters, [{ device: 'cuda:0', imageEncoder: { device: 'cuda:0' } }, { device: 'cuda:0' }])
  const options = { prompt: 'noto pizza', steps: 4, seed: 1, width: 64, height: 64 }
  const [image, other, mask] = ['a.png', 'b.png', 'left.png'].map((name) => join(fixtures, name))
  const without = (await gpu.generate(options)).images[0]
  const prompts: ImagePromptOptions[][] = [
    [{ image }],
    [{ image, scale: 0.8, end: 0.5, mask }],
    [
      { adapter: 1, image: [image, other], scale: 0.6 },
      { image: other, scale: 0.5, mask },
    ],
  ]
  for (const imagePrompts of prompts) {
    const [expected] = (await cpu.generate({ ...options, imagePrompts })).images
    const [drawn] = (await gpu.generate({ ...options, imagePrompts })).images
    t.ok(psnr(drawn, expected) >= 40, `${psnr(drawn, expected)} dB`)
    t.ok(psnr(drawn, without) < 35, 'the images guide')
    t.same((await gpu.generate({ ...options, imagePrompts })).images[0].data, drawn.data, 'again')
  }
  t.same((await gpu.generate(options)).images[0].data, without.data, 'nothing is left behind')
})
