/** Images compared with those of diffusers for the same options (tools/fixtures/pipeline.py). */
import t from 'tap'
import { DiffusionPipeline } from '../../lib/index.js'
import { cases, equalImages, psnr } from './support.js'

t.test('images equal those of diffusers', async (t) => {
  const pipe = await DiffusionPipeline.load(undefined, { precision: 'f32' })
  t.teardown(() => pipe.dispose())
  for (const { name, options, files } of cases()) {
    await t.test(name, async (t) => {
      const { images } = await pipe.generate({ ...options, weighting: false })
      await equalImages(t, images, { name, files })
    })
  }
})

t.test('with automatic precision, images look the same', async (t) => {
  await using pipe = await DiffusionPipeline.load()
  for (const { name, options, files } of cases().filter(({ name }) =>
    /^(text-ddim|image-ddim|inpaint-half)$/.test(name),
  )) {
    const { images } = await pipe.generate({ ...options, weighting: false })
    const decibels = await psnr(images[0], files[0])
    t.ok(decibels >= 30, `${name}: ${decibels} dB`)
  }
})
