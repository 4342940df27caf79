/**
 * The training objective of VQ-VAE compared with values by hand, and errors of autoencoders that are loaded by
 * themselves.
 */
import t from 'tap'
import { native } from '../../lib/native.js'
import { AutoencoderKL, bundledModelPath, VqModel, vqLosses, type Tensor } from '../../lib/index.js'

const tensor = (...data: number[]): Tensor => ({
  data: Float32Array.from(data),
  shape: [1, 1, 1, data.length],
})

t.test('losses', async (t) => {
  const terms = {
    image: tensor(1, 0),
    reconstruction: tensor(0, 0),
    encoded: tensor(2, 4),
    quantized: tensor(2, 2),
  }
  t.same(vqLosses(terms), { reconstruction: 0.5, codebook: 2, commitment: 0.5, total: 3 })
  t.same(vqLosses({ ...terms, commitment: 1 }).total, 4.5)
  t.throws(() => vqLosses({ ...terms, commitment: -1 }), { name: 'RangeError' })
  t.throws(() => vqLosses({ ...terms, quantized: tensor(1) }), { name: 'RangeError', message: /quantized/ })
  t.throws(() => vqLosses({ ...terms, beta: 1 } as never), { message: /Unknown option/ })
})

t.test('an autoencoder loaded by itself', async (t) => {
  await using vae = await AutoencoderKL.load(bundledModelPath())
  t.equal(vae.factor, 4)
  const image = { data: new Float32Array(3 * 32 * 32), shape: [1, 3, 32, 32] }
  const { mean } = await vae.encode(image)
  t.same(mean.shape, [1, 4, 8, 8])
  t.same((await vae.decode(mean)).shape, [1, 3, 32, 32])
  await t.rejects(VqModel.load(bundledModelPath()), { code: 'UNSUPPORTED_MODEL' })
  await t.rejects(AutoencoderKL.load('/no/such/model'), { code: 'MODEL_NOT_FOUND' })
})

t.test('codes do not depend on the number of threads, which may change meanwhile', async (t) => {
  await using vq = await VqModel.load()
  const { threads } = native().cpu()
  t.teardown(() => native().setThreads(threads))
  const side = 64
  const latents = {
    data: Float32Array.from({ length: 4 * side * side }, (_, i) => Math.sin(i)),
    shape: [1, 4, side, side],
  }
  const expected = (await vq.quantize(latents)).data
  for (let i = 0; i < 30; i++) {
    const calls = Array.from({ length: 4 }, () => vq.quantize(latents))
    for (const count of [1, 4, 2, 3]) native().setThreads(count)
    for (const { data } of await Promise.all(calls)) t.same(data, expected)
  }
})
