/** Runs on a GPU whose UNet sees more than latents and text, or whose latents are blended: the latents stay there all the same. */
import t from 'tap'
import {
  createScheduler,
  Image,
  type GenerateOptions,
  type SchedulerName,
  type StepEvent,
} from '../../lib/index.js'
import {
  DeviceTensors,
  MOST_OF_MASK,
  MOST_TENSORS,
  type DeviceTensor,
} from '../../lib/pipeline/device-tensors.js'
import {
  copiesOf,
  latentsOf,
  load,
  onHost,
  settlesAt,
  skip,
  small,
  type RunOptions,
} from './resident-support.js'

/** A picture with all colours, and a mask of its right half. */
const photo = pictureOf((x, y, channel) => (x * 8 + y * 3 + channel * 70) % 256)
const mask = pictureOf((x) => (x < 13 ? 0 : 255))

function pictureOf(level: (x: number, y: number, channel: number) => number): Image {
  const [width, height] = [32, 32]
  const at = (i: number) => level(Math.floor(i / 3) % width, Math.floor(i / 3 / width), i % 3)
  return new Image(
    width,
    height,
    Uint8Array.from({ length: 3 * width * height }, (_, i) => at(i)),
  )
}

t.test('masks', { skip }, async (t) => {
  await using pipe = await load()
  await latentsOf(pipe, { image: photo, mask, steps: 1 })
  const free = pipe.unet.freeDeviceMemory()
  const inpaint = { image: photo, mask }
  const all: [SchedulerName, RunOptions][] = [
    ['euler-a', { ...inpaint, steps: 4 }],
    ['heun', { ...inpaint, steps: 4, batchSize: 2 }],
    ['dpm++-2m-karras', { ...inpaint, steps: 6, strength: 0.6, batchSize: 3 }],
    ['plms', { ...inpaint, steps: 4, guidanceScale: 1 }],
    ['lcm', { ...inpaint, steps: 3, strength: 0.5 }],
    ['ddim', { ...inpaint, steps: 5, guidanceInterval: [0.3, 0.8], deepCache: { interval: 2 } }],
    ['unipc', { ...inpaint, steps: 5, schedulerOptions: { predictionType: 'v_prediction' } }],
  ]
  for (const [name, options] of all)
    t.same(
      await latentsOf(pipe, { ...options, scheduler: name }),
      await onHost(pipe, name, options),
      `${name} ${Object.keys(options).join(', ')}`,
    )
  t.equal(await settlesAt(pipe, free), free, 'all memory is free again')
})

t.test('the most tensors that a run has', { skip }, async (t) => {
  await using pipe = await load()
  const { put, add } = DeviceTensors.prototype
  let count = 0
  const counted = (made: DeviceTensor) => {
    count = Math.max(count, made.number + 1)
    return made
  }
  t.teardown(() => Object.assign(DeviceTensors.prototype, { put, add }))
  DeviceTensors.prototype.put = function (...given) {
    return counted(put.apply(this, given))
  }
  DeviceTensors.prototype.add = function (...given) {
    return counted(add.apply(this, given))
  }
  for (const [scheduler, schedulerOptions] of [
    ['plms', { skipPrkSteps: false }],
    ['lms', { order: 4 }],
  ] as const) {
    const options = { scheduler, schedulerOptions, steps: 6, guidanceRescale: 0.5, onStep: () => {} }
    for (const more of [{}, { image: photo, mask }]) {
      count = 0
      await latentsOf(pipe, { ...options, ...more })
      const most = MOST_TENSORS + ('mask' in more ? MOST_OF_MASK : 0)
      t.ok(count > 10 && count <= most, `${scheduler}: ${count} of ${most}, for which memory is planned`)
    }
  }
})

t.test('callbacks of a run with a mask', { skip }, async (t) => {
  await using pipe = await load()
  const run = async (scheduler: GenerateOptions['scheduler']) => {
    const seen: unknown[] = []
    const onStep = ({ step, latents, preview }: StepEvent) => {
      seen.push(latents.data.slice(), preview.data)
      if (step === 2) latents.data.fill(0.25)
    }
    return [await latentsOf(pipe, { image: photo, mask, steps: 4, scheduler, onStep }), seen]
  }
  const scheduler = createScheduler('dpm++-2m', 4, pipe.model.schedule)
  t.same(await run('dpm++-2m'), await run(scheduler), 'latents that are seen and changed')
})

t.test('copies of a run with a mask', { skip }, async (t) => {
  await using pipe = await load()
  const base = { image: photo, mask, scheduler: 'dpm++-2m' as const }
  const size = (await latentsOf(pipe, { ...base, steps: 2 })).data.byteLength
  const ofSize = (list: number[]) => list.filter((bytes) => bytes === size).length
  const run = (options: GenerateOptions) => copiesOf(() => pipe.generate({ ...small, ...base, ...options }))
  for (const steps of [2, 12]) {
    const { toDevice, toHost } = await run({ steps })
    t.equal(ofSize(toDevice), 4, 'the initial latents, the image, its noise and the mask')
    t.equal(ofSize(toHost), 1, 'the final latents')
  }
  const watched = await run({ steps: 12, onStep: ({ latents }: StepEvent) => void latents.data[0] })
  t.equal(ofSize(watched.toDevice), 4)
})
