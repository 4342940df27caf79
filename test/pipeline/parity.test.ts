/** Our pictures against those that diffusers drew with the same options (tools/fixtures/pipeline.py). */
import t from 'tap'
import { DiffusionPipeline } from '../../lib/index.js'
import { cases, difference, psnr } from './support.js'

t.test('pictures equal those of diffusers', async (t) => {
  const pipe = await DiffusionPipeline.load(undefined, { precision: 'f32' })
  t.teardown(() => pipe.dispose())
  for (const { name, options, files } of cases()) {
    await t.test(name, async (t) => {
      const { images } = await pipe.generate({ ...options, weighting: false })
      t.equal(images.length, files.length, 'as many pictures')
      for (const [i, file] of files.entries()) {
        const worst = await difference(images[i], file)
        t.ok(worst <= 2, `${file}: at most 2 of 255 levels apart (${worst})`)
      }
    })
  }
})

t.test('with the precision that the CPU is fastest in, pictures stay the same to the eye', async (t) => {
  await using pipe = await DiffusionPipeline.load()
  for (const { name, options, files } of cases().filter(({ name }) =>
    /^(text-ddim|image-ddim|inpaint-half)$/.test(name),
  )) {
    const { images } = await pipe.generate({ ...options, weighting: false })
    const decibels = await psnr(images[0], files[0])
    t.ok(decibels >= 30, `${name}: ${decibels} dB`)
  }
})
