/** Runs with ControlNets and adapters on a GPU: the latents stay there, where ControlNets see them as well. */
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { DiffusionPipeline, type GenerateOptions, type SchedulerName } from '../../../lib/index.js'
import { packageRoot } from '../../../lib/package-root.js'
import { base, fixtures, nets } from '../../adapters/control-models.js'
import { copiesOf, latentsOf, onHost, skip, small, type RunOptions } from './resident-support.js'

const [edges, depth, photo, mask] = ['edges', 'depth', 'photo', 'mask'].map((name) =>
  join(fixtures, `${name}.png`),
)
const others = join(packageRoot(), 'test', 'fixtures')
const size = { width: 32, height: 32 }

/** Runs with latents on the device and on the host. */
async function compare(t: Test, pipe: DiffusionPipeline, runs: readonly [SchedulerName, RunOptions][]) {
  await latentsOf(pipe, { ...size, ...runs[0][1], steps: 1 })
  const free = pipe.unet.freeDeviceMemory()
  for (const [name, options] of runs) {
    const given = { ...size, ...options }
    t.same(
      await latentsOf(pipe, { ...given, scheduler: name }),
      await onHost(pipe, name, given),
      `${name} ${JSON.stringify(options, (key, value) => (key === 'image' ? undefined : (value as unknown)))}`,
    )
  }
  t.equal(pipe.unet.freeDeviceMemory(), free, 'all memory is free again')
}

t.test('ControlNets', { skip }, async (t) => {
  await using pipe = await DiffusionPipeline.load(base.sd1, { device: 'cuda', controlNets: nets('sd1') })
  const two = [
    { image: edges, scale: 0.5 },
    { net: 1, image: depth, start: 0.5 },
  ]
  await compare(t, pipe, [
    ['euler-a', { steps: 4, controls: [{ image: edges }] }],
    ['dpm++-2m', { steps: 4, controls: [{ image: edges, guess: true, end: 0.5 }], batchSize: 2 }],
    ['heun', { steps: 4, controls: two, batchSize: 3 }],
    ['ddim', { steps: 4, controls: two, guidanceInterval: [0.3, 0.8] }],
    ['unipc', { steps: 4, controls: two, guidanceScale: 1, deepCache: { interval: 2 } }],
    ['lms', { steps: 4, controls: [{ image: edges, mask }], image: photo, mask, strength: 0.8 }],
  ])
})

t.test('a union ControlNet', { skip }, async (t) => {
  const controlNets = [join(others, 'control-union', 'net')]
  await using pipe = await DiffusionPipeline.load(base.sdxl, { device: 'cuda', controlNets })
  const canny = { image: edges, type: 'canny', scale: 0.7 } as const
  await compare(t, pipe, [
    ['euler', { steps: 3, controls: [canny] }],
    ['dpm++-2m', { steps: 3, controls: [canny, { image: depth, type: 'depth', end: 0.5 }], batchSize: 2 }],
  ])
})

t.test('ControlLLLites', { skip }, async (t) => {
  const controlNets = [join(others, 'control-lllite', 'sd1.safetensors')]
  await using pipe = await DiffusionPipeline.load(base.sd1, { device: 'cuda', controlNets })
  const two = [
    { image: edges, scale: 0.5 },
    { image: depth, start: 0.5 },
  ]
  await compare(t, pipe, [
    ['euler-a', { steps: 4, controls: [{ image: edges, guess: true, end: 0.5 }], batchSize: 2 }],
    ['ddim', { steps: 4, controls: two }],
  ])
})

t.test('T2I-Adapters', { skip }, async (t) => {
  const adapters = join(others, 't2i')
  await using pipe = await DiffusionPipeline.load(base.sd1, {
    device: 'cuda',
    unet: join(adapters, 'sd1-unet'),
    controlNets: ['full', 'light'].map((name) => join(adapters, `sd1-${name}`)),
  })
  const image = join(adapters, 'odd.png')
  const odd = { width: 56, height: 72 }
  const two = [
    { image, scale: 0.5, guess: true },
    { net: 1, image },
  ]
  await compare(t, pipe, [
    ['euler-a', { steps: 4, ...odd, controls: [{ image, end: 0.5 }], batchSize: 2 }],
    ['dpm++-2m', { steps: 4, ...odd, controls: two }],
  ])
})

t.test('copies of a run with ControlNets', { skip }, async (t) => {
  await using pipe = await DiffusionPipeline.load(base.sd1, { device: 'cuda', controlNets: nets('sd1') })
  const controls = [{ image: edges }, { net: 1, image: depth }]
  const options = { ...small, ...size, controls, scheduler: 'dpm++-2m' as const }
  const bytes = (await latentsOf(pipe, { ...options, steps: 2 })).data.byteLength
  const ofSize = (list: number[]) => list.filter((one) => one === bytes || one === 2 * bytes).length
  const run = (more: GenerateOptions) => copiesOf(() => pipe.generate({ ...options, ...more }))
  await latentsOf(pipe, { ...options, steps: 5 }) // as the two steps above: a pipeline keeps what it computes of timesteps
  const [few, many] = [await run({ steps: 2 }), await run({ steps: 5 })]
  t.equal(ofSize(many.toDevice), ofSize(few.toDevice), 'latents are uploaded once')
  t.equal(many.toHost.length, few.toHost.length, 'nothing more comes back from more steps')
  t.equal(many.toDevice.length - few.toDevice.length, 9, 'a step uploads shifts, for each model')
})
