/** Runs on a GPU whose UNet sees more than latents and text, or whose latents are blended: the latents stay there all the same. */
import { join } from 'node:path'
import t from 'tap'
import {
  createScheduler,
  DiffusionPipeline,
  type Tensor,
  Image,
  type GenerateOptions,
  type SchedulerName,
  type StepEvent,
} from '../../../lib/index.js'
import {
  DeviceTensors,
  MOST_OF_MASK,
  MOST_TENSORS,
  type DeviceTensor,
} from '../../../lib/pipeline/device-tensors.js'
import {
  conditioned,
  modelOf,
  copiesOf,
  latentsOf,
  load,
  onHost,
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
  t.equal(pipe.unet.freeDeviceMemory(), free, 'all memory is free again')
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
  for (const steps of [2, 5]) {
    const { toDevice, toHost } = await run({ steps })
    t.equal(ofSize(toDevice), 4, 'the initial latents, the image, its noise and the mask')
    t.equal(ofSize(toHost), 1, 'the final latents')
  }
  const watched = await run({ steps: 5, onStep: ({ latents }: StepEvent) => void latents.data[0] })
  t.equal(ofSize(watched.toDevice), 4)
})

t.test('UNets with further input channels', { skip }, async (t) => {
  const runs: [string, [SchedulerName, RunOptions][]][] = [
    [
      'inpainting',
      [
        ['euler-a', { steps: 4, image: photo, mask }],
        [
          'dpm++-2m',
          { steps: 4, image: photo, mask, batchSize: 2, strength: 0.6, deepCache: { interval: 2 } },
        ],
        ['ddim', { steps: 3, guidanceInterval: [0.3, 0.8] }],
      ],
    ],
    [
      'edit',
      [
        ['euler-a', { steps: 4, image: photo, imageGuidanceScale: 1.7 }],
        ['unipc', { steps: 4, image: photo, imageGuidanceScale: 0.3, batchSize: 2 }],
        ['heun', { steps: 4, image: photo, guidanceInterval: [0.3, 0.8], batchSize: 3 }],
        ['euler', { steps: 3, image: photo, guidanceScale: 1, imageGuidanceScale: 1 }],
      ],
    ],
    [
      'depth',
      [
        ['plms', { steps: 4, depth: photo, batchSize: 2 }],
        ['lcm', { steps: 3, depth: photo, image: photo, strength: 0.7 }],
        ['dpm++-sde', { steps: 3, depth: photo, image: photo, mask }],
      ],
    ],
  ]
  for (const [unet, all] of runs) {
    await using pipe = await load({ unet: join(conditioned, unet) })
    await latentsOf(pipe, { ...all[0][1], steps: 1 })
    const free = pipe.unet.freeDeviceMemory()
    for (const [name, options] of all)
      t.same(
        await latentsOf(pipe, { ...options, scheduler: name }),
        await onHost(pipe, name, options),
        `${unet}: ${name} ${Object.keys(options).join(', ')}`,
      )
    t.equal(pipe.unet.freeDeviceMemory(), free, 'all memory is free again')
  }
})

t.test('guidance by an image, rescaled', { skip }, async (t) => {
  await using pipe = await load({ unet: join(conditioned, 'edit') })
  const options = { steps: 3, image: photo, batchSize: 2, guidanceScale: 9, guidanceRescale: 0.7 }
  const got = await latentsOf(pipe, { ...options, scheduler: 'ddim' })
  const expected = await onHost(pipe, 'ddim', options)
  const apart = (other: Tensor) => Math.max(...got.data.map((x, i) => Math.abs(x - other.data[i])))
  t.ok(apart(expected) < 1e-3, `the order of sums differs: ${apart(expected)}`)
  t.ok(apart(await latentsOf(pipe, { ...options, guidanceRescale: 0, scheduler: 'ddim' })) > 0.01)
})

t.test('an upscaler', { skip }, async (t) => {
  await using pipe = await DiffusionPipeline.load(modelOf('upscaler'), { device: 'cuda' })
  const options = {
    steps: 3,
    image: photo,
    noiseLevel: 20,
    batchSize: 2,
    width: undefined,
    height: undefined,
  }
  for (const name of ['ddim', 'euler'] as const)
    t.same(await latentsOf(pipe, { ...options, scheduler: name }), await onHost(pipe, name, options), name)
})

t.test('copies of runs with further input channels', { skip }, async (t) => {
  for (const [unet, given, channels] of [
    ['inpainting', { image: photo, mask }, 2 * 5],
    ['depth', { depth: photo }, 2],
    ['edit', { image: photo }, 3 * 4],
  ] as const) {
    await using pipe = await load({ unet: join(conditioned, unet) })
    const base = { ...given, scheduler: 'dpm++-2m' as const }
    const { data, shape } = await latentsOf(pipe, { ...base, steps: 2 })
    await latentsOf(pipe, { ...base, steps: 5 }) // a pipeline keeps what it computes of timesteps
    const size = data.byteLength
    const ofSize = (list: number[], bytes: number) => list.filter((one) => one === bytes).length
    const run = (options: GenerateOptions) => copiesOf(() => pipe.generate({ ...small, ...base, ...options }))
    const [few, many] = [await run({ steps: 2 }), await run({ steps: 5 })]
    t.equal(ofSize(many.toDevice, size), 1, `${unet}: the initial latents`)
    t.equal(ofSize(many.toDevice, (size / shape[1]) * channels), 1, 'the further channels of all rows')
    t.equal(ofSize(many.toHost, size), ofSize(few.toHost, size))
    t.equal(many.toDevice.length - few.toDevice.length, 3, 'what a step uploads is of its timestep')
  }
})
