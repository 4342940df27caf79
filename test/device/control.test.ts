/** ControlNets on an emulated GPU: residuals stay in its memory. */
import { join } from 'node:path'
import t from 'tap'
import { DiffusionPipeline, type Image } from '../../lib/index.js'
import { base, fixtures, nets } from '../adapters/control-models.js'
import { emulatedEnvironment, emulatorBuilt, emulatorExpected } from './emulated.js'

const skip = !emulatorBuilt && !emulatorExpected
Object.assign(process.env, skip ? {} : emulatedEnvironment())

/** Peak signal-to-noise ratio of two images in dB. */
function psnr(a: Image, b: Image): number {
  let squares = 0
  for (let i = 0; i < a.data.length; i++) squares += (a.data[i] - b.data[i]) ** 2
  return 10 * Math.log10((255 * 255 * a.data.length) / squares)
}

t.test('pictures with ControlNets', { skip }, async (t) => {
  const controlNets = nets('sd1')
  await using cpu = await DiffusionPipeline.load(base.sd1, { device: 'cpu', precision: 'f32', controlNets })
  await using gpu = await DiffusionPipeline.load(base.sd1, { device: 'cuda', controlNets })
  t.match(gpu.controlNets, [{ device: 'cuda:0' }, { device: 'cuda:0' }])
  const options = { prompt: 'noto pizza', steps: 4, seed: 1, width: 64, height: 64 }
  const [edges, depth] = ['edges.png', 'depth.png'].map((name) => join(fixtures, name))
  for (const controls of [
    [{ image: edges }],
    [{ image: edges, guess: true, end: 0.5 }],
    [
      { image: edges, scale: 0.5 },
      { net: 1, image: depth, start: 0.5 },
    ],
  ]) {
    const [expected] = (await cpu.generate({ ...options, controls })).images
    const [image] = (await gpu.generate({ ...options, controls })).images
    t.ok(psnr(image, expected) >= 40, `${psnr(image, expected)} dB`)
    t.same((await gpu.generate({ ...options, controls })).images[0].data, image.data, 'again')
  }
})
