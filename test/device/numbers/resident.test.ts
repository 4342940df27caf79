/** Latents that stay on the GPU from step to step: the same numbers as with steps on the host, and hardly any copies. */
import t from 'tap'
import {
  createScheduler,
  type DiffusionPipeline,
  schedulerNames,
  type GenerateOptions,
  type SchedulerOptions,
  type StepEvent,
  type Tensor,
} from '../../../lib/index.js'
import { DeviceTensors } from '../../../lib/pipeline/device-tensors.js'
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

t.test('every scheduler', { skip }, async (t) => {
  await using pipe = await load()
  const free = pipe.unet.freeDeviceMemory()
  const settings: SchedulerOptions[] = [{}, { predictionType: 'v_prediction' }, { predictionType: 'sample' }]
  const methods = schedulerNames.filter((name) => !/-(karras|exponential|beta)$/.test(name))
  for (const [i, name] of methods.entries()) {
    const schedulerOptions = settings[i % settings.length]
    const options = { steps: 6, schedulerOptions, guidanceScale: i % 4 === 3 ? 1 : 4 }
    const got = await latentsOf(pipe, { ...options, scheduler: name })
    t.same(got, await onHost(pipe, name, options), `${name} ${JSON.stringify(options)}`)
  }
  for (const [name, schedulerOptions] of [
    ['unipc', { order: 3 }],
    ['dpm++-2s', { order: 3, solverType: 'heun' }],
    ['dpm++-2m-sde', { order: 3 }],
    ['deis', { order: 3 }],
    ['plms', { skipPrkSteps: false }],
    ['lms', { order: 4, predictionType: 'v_prediction' }],
  ] as const) {
    const options = { steps: 6, schedulerOptions }
    const got = await latentsOf(pipe, { ...options, scheduler: name })
    t.same(got, await onHost(pipe, name, options), `${name} ${JSON.stringify(schedulerOptions)}`)
  }
  t.equal(pipe.unet.freeDeviceMemory(), free, 'all memory is free again')
})

t.test('tensors that a scheduler remembers', async (t) => {
  const native = { read: () => Promise.reject(new Error('not called')), dispose: () => undefined }
  const begin = () => {
    const tensors = new DeviceTensors(native, [1, 4, 2, 2])
    const values = { data: new Float32Array(16), shape: [1, 4, 2, 2] }
    const made = [0, 1, 2, 3].map(() => tensors.put(values))
    return { tensors, made, latents: tensors.put(values) }
  }
  const { tensors, made, latents } = begin()
  const [a, b, c, forgotten] = made
  tensors.endStep(latents, { list: [{ a }], map: new Map([[1, b]]) }, undefined, { set: new Set([c]), n: 1 })
  for (const tensor of [a, b, c, latents]) t.equal(tensors.put(tensor), tensor)
  const error = { name: 'TypeError', message: /one of an earlier step/ }
  t.throws(() => latents.combine([[1, forgotten]]), error, 'never other numbers in its place')
  t.throws(() => forgotten.clamp(1), error)
  t.throws(() => latents.combine([[1, begin().latents]]), error, 'of another run')
  tensors.call(latents)
  const reused = tensors.put({ data: new Float32Array(16), shape: [1, 4, 2, 2] })
  t.equal(reused.number, forgotten.number)
  t.throws(() => latents.combine([[1, forgotten]]), error, 'its memory is in use again')
})

t.test('options of a run', { skip }, async (t) => {
  await using pipe = await load()
  const rest: RunOptions[] = [
    { steps: 3, batchSize: 3 },
    { steps: 4, guidanceInterval: [0.3, 0.8] },
    { steps: 4, deepCache: { interval: 2 }, tokenMerging: 0.5 },
    { steps: 4, image: await picture(pipe), strength: 0.6 },
    { steps: 4, rng: 'philox' },
  ]
  for (const options of rest)
    for (const name of ['euler-a', 'dpm++-2m-karras'] as const)
      t.same(
        await latentsOf(pipe, { ...options, scheduler: name }),
        await onHost(pipe, name, options),
        `${name} ${Object.keys(options).join(', ')}`,
      )
  const rescaled = { steps: 3, batchSize: 2, guidanceRescale: 0.7, guidanceScale: 9 }
  const got = await latentsOf(pipe, { ...rescaled, scheduler: 'ddim' })
  const expected = await onHost(pipe, 'ddim', rescaled)
  const worst = Math.max(...got.data.map((x, i) => Math.abs(x - expected.data[i])))
  t.ok(worst < 1e-3, `guidanceRescale: ${worst}`)
  const drawn = { ...small, steps: 3, outputType: 'image' as const }
  const [image] = (await pipe.generate({ ...drawn, scheduler: 'euler' })).images
  const scheduler = createScheduler('euler', 3, pipe.model.schedule)
  t.same(image.data, (await pipe.generate({ ...drawn, scheduler })).images[0].data, 'the picture')
})

async function picture(pipe: DiffusionPipeline) {
  return (await pipe.generate({ ...small, steps: 1, outputType: 'image' })).images[0]
}

t.test('copies', { skip }, async (t) => {
  await using pipe = await load()
  const run = (options: GenerateOptions) => copiesOf(() => pipe.generate({ ...small, ...options }))
  const base = { ...small, scheduler: 'dpm++-2m' as const }
  const size = (await latentsOf(pipe, { ...base, steps: 2 })).data.byteLength
  const ofSize = (list: number[]) => list.filter((bytes) => bytes === size).length
  // A pipeline keeps what it computes of each timestep.
  for (const steps of [2, 5]) await latentsOf(pipe, { ...base, steps })
  const [few, many] = [await run({ ...base, steps: 2 }), await run({ ...base, steps: 5 })]
  t.equal(ofSize(few.toDevice), 1, 'the initial latents')
  t.equal(ofSize(few.toHost), 1, 'the final latents')
  t.equal(ofSize(many.toDevice), 1)
  t.equal(many.toHost.length, few.toHost.length, 'nothing more comes back from more steps')
  // The shifts of its timestep are what a step uploads.
  t.equal(many.toDevice.length - few.toDevice.length, 3)

  const progress = await run({ ...base, steps: 5, onStep: () => {} })
  t.equal(ofSize(progress.toDevice), 1, 'an observer of progress changes nothing')
  const reads = await run({ ...base, steps: 5, onStep: ({ latents }) => void latents.data[0] })
  t.equal(ofSize(reads.toDevice), 1, 'latents that are only read are not uploaded again')
  const stochastic = await run({ ...base, steps: 5, scheduler: 'euler-a' })
  t.equal(ofSize(stochastic.toDevice), 1 + 4, 'noise is uploaded')
  t.equal(ofSize(stochastic.toHost), 1)
  const scheduler = createScheduler('dpm++-2m', 5, pipe.model.schedule)
  const host = await run({ ...base, steps: 5, scheduler })
  t.ok(host.toHost.length >= 5, 'a caller’s scheduler computes on the host')
})

t.test('callbacks', { skip }, async (t) => {
  await using pipe = await load()
  const run = async (scheduler: GenerateOptions['scheduler'], onStep: (event: StepEvent) => void) =>
    latentsOf(pipe, { steps: 5, scheduler, onStep })
  for (const name of ['dpm++-2m', 'heun', 'plms', 'lcm'] as const) {
    const object = () => createScheduler(name, 5, pipe.model.schedule)
    const kept: StepEvent[][] = [[], []]
    const plain = [
      await run(name, (event) => void kept[0].push(event)),
      await run(object(), (event) => void kept[1].push(event)),
    ]
    t.same(plain[0], plain[1])
    t.same(
      kept[0].map(({ latents, preview }) => [latents, preview.data]),
      kept[1].map(({ latents, preview }) => [latents, preview.data]),
      `${name}: events that are read after the run`,
    )
    t.type(kept[0][0].latents.data, Float32Array)
    const own = (event: StepEvent) => Object.getOwnPropertyDescriptor(event, 'latents')
    t.match(own(kept[0][0]), { ...own(kept[1][0]), value: Object }, 'events are like those of the host')
    t.ok(own(kept[0][0])?.writable)
    t.same(await run(name, ({ preview }) => void preview.data), plain[0], 'previews change nothing')
    const change = ({ latents, step }: StepEvent) => void (step === 2 && latents.data.fill(0.25))
    const changed = await run(name, change)
    t.same(changed, await run(object(), change), `${name}: latents that are changed`)
    t.notSame(changed, plain[0])
  }
  const events: Tensor[] = []
  const steps = pipe.steps({ ...small, steps: 3, scheduler: 'euler' })
  for await (const { latents } of steps) events.push(latents)
  const expected: Tensor[] = []
  for await (const { latents } of pipe.steps({
    ...small,
    steps: 3,
    scheduler: createScheduler('euler', 3, pipe.model.schedule),
  }))
    expected.push(latents)
  t.same(events, expected, 'a generator of steps')
})

t.test('numbers that are not finite', { skip }, async (t) => {
  await using pipe = await load()
  const warning = async (options: GenerateOptions) =>
    (await pipe.generate({ ...small, steps: 4, scheduler: 'euler', ...options })).warnings
      .filter((text) => text.includes('not finite'))
      .map((text) => text.split(' numbers')[0])
  t.same(await warning({}), [])
  const spoil = ({ step, latents }: StepEvent) => void (step === 2 && (latents.data[7] = NaN))
  t.same(await warning({ onStep: spoil }), ['The UNet gave'])
  const scheduler = createScheduler('euler', 4, pipe.model.schedule)
  t.same(await warning({ onStep: spoil, scheduler }), ['The UNet gave'])
})

t.test('a run that ends early', { skip }, async (t) => {
  const pipe = await load()
  await pipe.generate({ ...small, steps: 1 })
  const free = pipe.unet.freeDeviceMemory()
  const long = { ...small, steps: 500, scheduler: 'lms' as const }
  const settled = () => settlesAt(pipe, free)
  const controller = new AbortController()
  const onStep = ({ step }: StepEvent) => void (step === 3 && controller.abort(new Error('enough')))
  await t.rejects(pipe.generate({ ...long, onStep, signal: controller.signal }), { message: 'enough' })
  t.equal(await settled(), free, 'cancelled in a callback')
  const later = new AbortController()
  setTimeout(() => later.abort(new Error('late')), 50)
  await t.rejects(pipe.generate({ ...long, signal: later.signal }), { message: 'late' })
  t.equal(await settled(), free, 'cancelled in a step')
  await t.rejects(
    pipe.generate({
      ...long,
      onStep: () => {
        throw new Error('broken')
      },
    }),
    { message: 'broken' },
  )
  t.equal(pipe.unet.freeDeviceMemory(), free, 'a callback that throws')
  for await (const { step } of pipe.steps(long)) if (step === 2) break
  t.equal(pipe.unet.freeDeviceMemory(), free, 'a loop that is left')
  const running = pipe.generate({ ...long, onStep: () => void pipe.dispose() })
  await t.rejects(running, { code: 'DISPOSED' })
  await pipe.dispose()
})
