/** A tiny autoencoder with the bundled model: previews, images, memory, and errors. */
import { join } from 'node:path'
import t from 'tap'
import { DiffusionPipeline, Image, type StepEvent } from '../../lib/index.js'
import { packageRoot } from '../../lib/package-root.js'
import { quick } from './support.js'

const folder = join(packageRoot(), 'test', 'fixtures', 'tiny-vae')

t.test('previews and images', async (t) => {
  await using pipe = await DiffusionPipeline.load(undefined, { tinyVae: join(folder, 'three-levels') })
  const previews: Image[] = []
  const onStep = ({ preview }: StepEvent) => previews.push(preview)
  const { images } = await pipe.generate({ ...quick, seed: 1, decoder: 'tiny', onStep })
  t.match(images[0], { width: 64, height: 64 })
  t.ok(previews.length > 1)
  for (const preview of previews) t.match(preview, { width: 64, height: 64 })
  t.notSame(previews[0].data, previews.at(-1)!.data, 'each step has its own preview')
  const { latents } = await pipe.generate({ ...quick, seed: 1, outputType: 'latents' })
  t.same(
    Image.fromTensor(await pipe.tinyVae!.decode(latents!)).data,
    images[0].data,
    'latents are not scaled',
  )
  const full = await pipe.generate({ ...quick, seed: 1 })
  t.notSame(full.images[0].data, images[0].data, 'the full decoder is the default')
})

t.test('dispose', async (t) => {
  const pipe = await DiffusionPipeline.load(undefined, { tinyVae: join(folder, 'three-levels') })
  const tiny = pipe.tinyVae!
  const latents = { data: new Float32Array(4 * 4 * 4), shape: [1, 4, 4, 4] }
  t.same((await tiny.decode(latents)).shape, [1, 3, 16, 16])
  await pipe.dispose()
  await t.rejects(tiny.decode(latents), { code: 'DISPOSED' })
})

t.test('options and files that are refused', async (t) => {
  await using pipe = await DiffusionPipeline.load()
  await t.rejects(pipe.generate({ ...quick, decoder: 'tiny' }), { message: /loaded with tinyVae/ })
  t.equal(pipe.tinyVae, undefined)
  await t.rejects(DiffusionPipeline.load(undefined, { tinyVae: join(folder, 'wide') }), {
    code: 'UNSUPPORTED_MODEL',
    message: /expected 4 latent channels and factor 4 as in the model, found 3 latent channels and factor 2/,
  })
  await t.rejects(DiffusionPipeline.load(undefined, { tinyVae: 5 as never }), {
    name: 'TypeError',
    message: /tinyVae/,
  })
})
