/** Every named scheduler gives finite latents from noise, from an image and in inpainting. */
import t from 'tap'
import { DiffusionPipeline, schedulerNames, type GenerateOptions, type Tensor } from '../../lib/index.js'
import { quick } from './support.js'

const pipe = await DiffusionPipeline.load()
t.teardown(() => pipe.dispose())
const side = 32
const image: Tensor = {
  data: new Float32Array(3 * side * side).map((_, i) => Math.sin(i / 5) / 2),
  shape: [1, 3, side, side],
}
const mask: Tensor = {
  data: new Float32Array(side * side).fill(1, 0, (side * side) / 2),
  shape: [1, 1, side, side],
}
const ways: Record<string, GenerateOptions> = {
  'from noise': {},
  'from an image': { image, strength: 0.7 },
  'into an image': { image, mask },
}

for (const scheduler of schedulerNames) {
  t.test(scheduler, async (t) => {
    for (const [way, options] of Object.entries(ways)) {
      let seen = 0
      const { latents, warnings } = await pipe.generate({
        ...quick,
        ...options,
        scheduler,
        steps: 3,
        guidanceScale: 1,
        width: side,
        height: side,
        outputType: 'latents',
        onStep: ({ step, steps }) => {
          t.ok(step === ++seen && step <= steps, `${way}: step ${step} of ${steps}`)
        },
      })
      t.ok(seen > 0)
      const largest = Math.max(...latents!.data.map(Math.abs))
      t.ok(largest > 0.1 && largest < 100, `${way}: finite and in the range of latents (${largest})`)
      t.notMatch(warnings.join(), /not finite/)
    }
  })
}
