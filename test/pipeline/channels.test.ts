/** UNets with additional input channels, and models assembled from other components: small random ones, end to end. */
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { DiffusionPipeline, VqModel, vqLosses, type GenerateOptions, type Tensor } from '../../lib/index.js'
import { fixtures } from '../models/fixtures.js'
import { largestDifference } from './support.js'

/** Numbers between −1 and 1 that look random. */
function tensor(...shape: number[]): Tensor {
  const data = new Float32Array(shape.reduce((a, b) => a * b))
  return { data: data.map((_, i) => Math.sin(i * 12.9898) * Math.cos(i * 0.37)), shape }
}

/** A pipeline with a UNet of the fixtures and their KL autoencoder, without a text encoder. */
async function assemble(t: Test, unet: string): Promise<DiffusionPipeline> {
  const path = mkdtempSync(join(tmpdir(), 'node-diffusion-parts-'))
  cpSync(join(fixtures, unet), path, { recursive: true })
  cpSync(join(fixtures, 'vae-kl'), path, { recursive: true })
  writeFileSync(join(path, 'model_index.json'), '{ "_class_name": "StableDiffusionPipeline" }')
  const pipe = await DiffusionPipeline.load(path)
  t.teardown(async () => {
    await pipe.dispose()
    rmSync(path, { recursive: true, force: true })
  })
  return pipe
}

const base: GenerateOptions = {
  promptEmbeds: tensor(1, 7, 20),
  steps: 2,
  seed: 1,
  width: 64,
  height: 32,
  outputType: 'latents',
  scheduler: 'ddim',
}

t.test('a UNet with nine channels gets the mask and the masked image', async (t) => {
  const pipe = await assemble(t, 'inpainting')
  t.match(pipe.model.architecture, /inpainting/)
  const image = tensor(1, 3, 32, 64)
  const mask = { data: new Float32Array(32 * 64).fill(1, 0, 32 * 32), shape: [1, 1, 32, 64] }
  const run = async (options: GenerateOptions) =>
    (await pipe.generate({ ...base, ...options, batchSize: 2 })).latents!
  const a = await run({ image, mask })
  t.same(a.shape, [2, 4, 4, 8])
  t.ok(a.data.every(Number.isFinite))
  const inverted = { data: mask.data.map((x) => 1 - x), shape: mask.shape }
  t.ok(
    largestDifference(a.data, (await run({ image, mask: inverted })).data) > 1e-4,
    'the mask has an effect',
  )
  const other = { data: image.data.map((x) => -x), shape: image.shape }
  t.ok(largestDifference(a.data, (await run({ image: other, mask })).data) > 1e-4, 'the image has an effect')
  const { images } = await pipe.generate({ ...base, image, mask, outputType: 'image' })
  t.match(images[0], { width: 64, height: 32 })
  const white = { data: mask.data.map(() => 1), shape: mask.shape }
  t.same(await run({}), await run({ image, mask: white }), 'text alone: everything is painted anew')
  t.same(
    await run({ image, strength: 0.5 }),
    await run({ image, mask: white, strength: 0.5 }),
    'an image without a mask: all of it is repainted',
  )
  t.ok(pipe.memoryNeeded({ width: 64, height: 32 }).total > 0)
  // A mask and latents can also be passed as extraChannels.
  t.equal((await run({ extraChannels: tensor(1, 5, 4, 8) })).shape[0], 2)
})

t.test('a UNet with eight channels gets the latents of another image', async (t) => {
  const pipe = await assemble(t, 'image-conditioned')
  const run = async (extraChannels: Tensor, options: GenerateOptions = {}) =>
    (await pipe.generate({ ...base, ...options, extraChannels })).latents!
  const a = await run(tensor(1, 4, 4, 8))
  t.ok(a.data.every(Number.isFinite))
  const zeros = { data: new Float32Array(4 * 4 * 8), shape: [1, 4, 4, 8] }
  t.ok(largestDifference(a.data, (await run(zeros)).data) > 1e-4, 'they have an effect')
  t.same((await run(tensor(3, 4, 4, 8), { batchSize: 3 })).shape, [3, 4, 4, 8], 'one for each image')
  t.ok((await run(tensor(1, 4, 4, 8), { image: tensor(1, 3, 32, 64) })).data.every(Number.isFinite))
  for (const wrong of [tensor(1, 3, 4, 8), tensor(1, 4, 8, 4), tensor(2, 4, 4, 8)]) {
    await t.rejects(run(wrong), { name: 'RangeError', message: /extraChannels/ })
  }
  await t.rejects(pipe.generate(base), { name: 'TypeError', message: /^Expected image, as this model edits/ })
  await t.rejects(pipe.generate({ ...base, prompt: 'a', promptEmbeds: undefined }), {
    name: 'TypeError',
    message: /no text encoder/,
  })
})

t.test('a VQ model from its folder', async (t) => {
  await using vq = await VqModel.load(join(fixtures, 'vq'))
  t.same(vq.codebook, { size: 37, width: 3 })
  const image = tensor(2, 3, 32, 48)
  const { latents, indices, quantized } = await vq.encode(image)
  t.same([latents.shape, indices.shape, quantized.shape], [[2, 3, 8, 12], [2, 8, 12], [2, 3, 8, 12]]) // prettier-ignore
  t.ok(indices.data.every((code) => code >= 0 && code < 37))
  const again = await vq.quantize(quantized)
  t.same(again.data, indices.data, 'the nearest code to a codebook vector is its own')
  const reconstruction = await vq.decode(indices)
  t.same(reconstruction.shape, image.shape)
  t.equal(
    largestDifference(reconstruction.data, (await vq.decode(latents)).data),
    0,
    'latents are quantized first',
  )
  const losses = vqLosses({ image, reconstruction, encoded: latents, quantized })
  t.ok(losses.reconstruction > 0 && losses.codebook > 0)
  t.equal(losses.commitment, 0.25 * losses.codebook)
  t.equal(losses.total, losses.reconstruction + losses.codebook + losses.commitment)
  const one = await vq.encode({ data: image.data.slice(0, 3 * 32 * 48), shape: [1, 3, 32, 48] })
  t.equal(largestDifference(one.latents.data, latents.data.slice(0, one.latents.data.length)), 0, 'batches')
  await t.rejects(vq.decode({ data: Int32Array.of(37), shape: [1, 1, 1] }), { name: 'RangeError' })
})
