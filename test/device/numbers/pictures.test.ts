/** The whole API on an emulated GPU: pictures, components and acceleration. */
import { join } from 'node:path'
import t from 'tap'
import {
  AutoencoderTiny,
  bundledModelPath,
  DiffusionPipeline,
  quantizeModel,
  VqModel,
  type Image,
  type Tensor,
} from '../../../lib/index.js'
import { packageRoot } from '../../../lib/package-root.js'
import { readTensors } from '../../models/fixtures.js'
import { quick } from '../../pipeline/support.js'
import { emulatedEnvironment, emulatorBuilt, emulatorExpected, psnr } from '../emulated.js'

const skip = !emulatorBuilt && !emulatorExpected
Object.assign(process.env, skip ? {} : emulatedEnvironment())

const tinyVae = join(packageRoot(), 'test', 'fixtures', 'tiny-vae', 'three-levels')
const wideVae = join(packageRoot(), 'test', 'fixtures', 'wide-vae')
const one = { ...quick, steps: 1 }

/** What diffusers computes with the autoencoder of large activations, for one picture. */
function golden(name: string): Tensor {
  const { data, shape } = readTensors(join(wideVae, 'golden.safetensors')).get(`1x5x7/${name}`)!
  return { data: data as Float32Array, shape }
}

/** The largest difference over the largest value. */
function worst(got: Tensor, truth: Tensor): number {
  let [difference, largest] = [0, 0]
  for (const [i, x] of truth.data.entries()) {
    difference = Math.max(difference, Math.abs(x - got.data[i]))
    largest = Math.max(largest, Math.abs(x))
  }
  return Number.isNaN(difference) ? Infinity : difference / largest
}

t.test('pictures', { skip }, async (t) => {
  await using cpu = await DiffusionPipeline.load(undefined, { device: 'cpu', precision: 'f32', tinyVae })
  await using gpu = await DiffusionPipeline.load(undefined, { device: 'cuda', tinyVae })
  t.equal(gpu.device, 'cuda:0')
  t.match(
    [gpu.unet.device, gpu.vae.device, gpu.textEncoder.device, gpu.tinyVae?.device],
    Array(4).fill('cuda:0'),
  )
  const [expected] = (await cpu.generate(quick)).images
  const [image] = (await gpu.generate(quick)).images
  t.ok(psnr(image, expected) >= 45, `${psnr(image, expected)} dB`)
  const [again] = (await gpu.generate(quick)).images
  t.same(again.data, image.data, 'a seed gives the same picture')

  const accelerated = { ...quick, deepCache: { interval: 2 }, decoder: 'tiny' as const }
  const previews: Image[] = []
  const result = await gpu.generate({ ...accelerated, onStep: ({ preview }) => void previews.push(preview) })
  const reference = await cpu.generate(accelerated)
  t.ok(psnr(result.images[0], reference.images[0]) >= 40, 'DeepCache and the tiny autoencoder')
  t.equal(previews.length, 2)
  t.match(previews[0], { width: 64, height: 64 }, 'previews of the tiny autoencoder')
  t.ok(gpu.memoryNeeded().working > 0)

  const merging = { ...quick, tokenMerging: 0.5 }
  const [merged] = (await gpu.generate(merging)).images
  const [expectedMerged] = (await cpu.generate(merging)).images
  t.ok(psnr(merged, expectedMerged) >= 45, `merged tokens: ${psnr(merged, expectedMerged)} dB`)
  t.ok(psnr(merged, image) < 40, 'they change the picture')
})

t.test('LoRAs of a call', { skip }, async (t) => {
  const loras = [join(packageRoot(), 'test', 'fixtures', 'adapters', 'kohya.safetensors')]
  await using loaded = await DiffusionPipeline.load(undefined, { device: 'cuda', loras })
  await using gpu = await DiffusionPipeline.load(undefined, { device: 'cuda' })
  const [plain] = (await gpu.generate(one)).images
  const [own] = (await gpu.generate({ ...one, loras })).images
  t.same(own.data, (await loaded.generate(one)).images[0].data, 'those of load(), bit for bit')
  t.notSame(own.data, plain.data)
  t.same((await gpu.generate(one)).images[0].data, plain.data, 'the next call is without them')
})

t.test('quantized weights', { skip }, async (t) => {
  const file = join(t.testdir(), 'model.gguf')
  await quantizeModel(bundledModelPath(), file, { type: 'q4_k' })
  await using cpu = await DiffusionPipeline.load(file, { device: 'cpu', precision: 'f32', lowMemory: false })
  await using gpu = await DiffusionPipeline.load(file, { device: 'cuda' })
  const stored = gpu.model.components.unet.bytes
  t.ok(gpu.unet.weightBytes < 1.15 * stored, `${gpu.unet.weightBytes} bytes of ${stored} stored`)
  const [expected] = (await cpu.generate(one)).images
  const [image] = (await gpu.generate(one)).images
  t.ok(psnr(image, expected) >= 45, `${psnr(image, expected)} dB`)
})

t.test('autoencoders', { skip }, async (t) => {
  const latents = {
    data: Float32Array.from({ length: 4 * 12 * 12 }, (_, i) => Math.sin(i)),
    shape: [1, 4, 12, 12],
  }
  const file = join(packageRoot(), 'models', 'emoji-64')
  const { AutoencoderKL } = await import('../../../lib/index.js')
  await using gpu = await AutoencoderKL.load(file, { device: 'cuda' })
  await using cpu = await AutoencoderKL.load(file, { device: 'cpu', precision: 'f32' })
  const truth = await cpu.decode(latents, { tiling: false })
  t.ok(worst(await gpu.decode(latents, { tiling: false }), truth) < 5e-3)
  t.ok(worst(await gpu.decode(latents, { tiling: true }), truth) < 5e-3, 'in bands')
  // Activations of up to a million, in front of its normalizations.
  await using wide = await AutoencoderKL.load(wideVae, { device: 'cuda' })
  const decoded = await wide.decode(golden('latents'), { tiling: false })
  t.ok(worst(decoded, golden('decoded')) < 5e-3, 'beyond half precision')
  t.ok(worst(await wide.decode(golden('latents'), { tiling: true }), golden('decoded')) < 5e-3)
  const { mean, logvar } = await wide.encode(golden('image'))
  const moments = { ...golden('moments'), data: Float32Array.of(...mean.data, ...logvar.data) }
  t.ok(worst(moments, golden('moments')) < 5e-3)
  await using tiny = await AutoencoderTiny.load(tinyVae, { device: 'cuda' })
  await using tinyCpu = await AutoencoderTiny.load(tinyVae, { device: 'cpu', precision: 'f32' })
  t.ok(worst(await tiny.decode(latents), await tinyCpu.decode(latents)) < 5e-3)
  await using vq = await VqModel.load(undefined, { device: 'cuda' })
  await using vqCpu = await VqModel.load(undefined, { device: 'cpu', precision: 'f32' })
  t.equal(vq.device, 'cuda:0')
  const image = {
    data: Float32Array.from({ length: 3 * 32 * 32 }, (_, i) => Math.cos(i / 50)),
    shape: [1, 3, 32, 32],
  }
  const [a, b] = [await vq.encode(image), await vqCpu.encode(image)]
  const equal = a.indices.data.filter((code, i) => code === b.indices.data[i]).length
  t.ok(equal >= 0.95 * b.indices.data.length, `${equal} of ${b.indices.data.length} codes`)
})
