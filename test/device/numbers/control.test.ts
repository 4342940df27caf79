/** ControlNets and T2I-Adapters on an emulated GPU: residuals and features stay in its memory. */
import { join } from 'node:path'
import t from 'tap'
import { DiffusionPipeline } from '../../../lib/index.js'
import { base, fixtures, nets } from '../../adapters/control-models.js'
import { packageRoot } from '../../../lib/package-root.js'
import { emulatedEnvironment, emulatorBuilt, emulatorExpected, psnr } from '../emulated.js'

const skip = !emulatorBuilt && !emulatorExpected
Object.assign(process.env, skip ? {} : emulatedEnvironment())

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

t.test('pictures with a union ControlNet', { skip }, async (t) => {
  const controlNets = [join(packageRoot(), 'test', 'fixtures', 'control-union', 'net')]
  await using cpu = await DiffusionPipeline.load(base.sdxl, { device: 'cpu', precision: 'f32', controlNets })
  await using gpu = await DiffusionPipeline.load(base.sdxl, { device: 'cuda', controlNets })
  const options = { prompt: 'noto pizza', steps: 4, seed: 1, width: 64, height: 64 }
  const edges = { image: join(fixtures, 'edges.png'), type: 'canny', scale: 0.7 } as const
  const depth = { image: join(fixtures, 'depth.png'), type: 'depth', end: 0.5 } as const
  for (const controls of [[edges], [edges, depth]]) {
    const [expected] = (await cpu.generate({ ...options, controls })).images
    const [image] = (await gpu.generate({ ...options, controls })).images
    t.ok(psnr(image, expected) >= 40, `${psnr(image, expected)} dB`)
    t.same((await gpu.generate({ ...options, controls })).images[0].data, image.data, 'again')
  }
})

t.test('pictures with a control-LoRA', { skip }, async (t) => {
  const controlNets = [join(packageRoot(), 'test', 'fixtures', 'control-lora', 'sd1.safetensors')]
  await using cpu = await DiffusionPipeline.load(base.sd1, { device: 'cpu', precision: 'f32', controlNets })
  await using gpu = await DiffusionPipeline.load(base.sd1, { device: 'cuda', controlNets })
  const controls = [{ image: join(fixtures, 'edges.png') }]
  const options = { prompt: 'noto pizza', steps: 4, seed: 1, width: 64, height: 64, controls }
  const [expected, image] = [await cpu.generate(options), await gpu.generate(options)]
  const dB = psnr(image.images[0], expected.images[0])
  t.ok(dB >= 40, `${dB} dB`)
})

t.test('pictures with ControlLLLites', { skip }, async (t) => {
  const controlNets = [join(packageRoot(), 'test', 'fixtures', 'control-lllite', 'sd1.safetensors')]
  await using cpu = await DiffusionPipeline.load(base.sd1, { device: 'cpu', precision: 'f32', controlNets })
  await using gpu = await DiffusionPipeline.load(base.sd1, { device: 'cuda', controlNets })
  const options = { prompt: 'noto pizza', steps: 4, seed: 1, width: 64, height: 64 }
  const [edges, depth] = ['edges.png', 'depth.png'].map((name) => join(fixtures, name))
  for (const controls of [
    [{ image: edges, guess: true, end: 0.5 }],
    [
      { image: edges, scale: 0.5 },
      { image: depth, start: 0.5 },
    ],
  ]) {
    const [expected] = (await cpu.generate({ ...options, controls })).images
    const [image] = (await gpu.generate({ ...options, controls })).images
    t.ok(psnr(image, expected) >= 40, `${psnr(image, expected)} dB`)
    t.same((await gpu.generate({ ...options, controls })).images[0].data, image.data, 'again')
  }
})

t.test('pictures with T2I-Adapters', { skip }, async (t) => {
  const adapters = join(packageRoot(), 'test', 'fixtures', 't2i')
  const options = {
    unet: join(adapters, 'sd1-unet'),
    controlNets: ['full', 'light'].map((name) => join(adapters, `sd1-${name}`)),
  }
  await using cpu = await DiffusionPipeline.load(base.sd1, { ...options, device: 'cpu', precision: 'f32' })
  await using gpu = await DiffusionPipeline.load(base.sd1, { ...options, device: 'cuda' })
  const call = { prompt: 'noto pizza', steps: 4, seed: 1, width: 56, height: 72 }
  const image = join(adapters, 'odd.png')
  for (const controls of [
    [{ image, end: 0.5 }],
    [
      { image, scale: 0.5, guess: true },
      { net: 1, image },
    ],
  ]) {
    const [expected] = (await cpu.generate({ ...call, controls })).images
    const [drawn] = (await gpu.generate({ ...call, controls })).images
    t.ok(psnr(drawn, expected) >= 40, `${psnr(drawn, expected)} dB`)
    t.same((await gpu.generate({ ...call, controls })).images[0].data, drawn.data, 'again')
  }
})
