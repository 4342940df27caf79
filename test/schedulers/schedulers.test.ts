import t from 'tap'
import {
  createScheduler,
  defaultSchedulerName,
  schedulerNames,
  type SchedulerName,
  type SchedulerOptions,
} from '../../lib/schedulers/index.js'
import { TorchRandom } from '../../lib/random/index.js'
import type { PredictionType, Tensor } from '../../lib/types.js'
import { model, scheduleNamed, tensor } from './fixtures.js'

const schedule = scheduleNamed('sd')
const finite = ({ data }: Tensor) => data.every(Number.isFinite)

/** Runs a schedule and returns the final latents. */
function sample(name: string, steps: number, options?: SchedulerOptions, begin = 0): Tensor {
  const scheduler = createScheduler(name, steps, schedule, options)
  const random = new TorchRandom(7)
  scheduler.reset({ random, begin })
  const start = random.normal([1, 1, 4, 4])
  let latents: Tensor = { data: start.data.map((x) => x * scheduler.initNoiseSigma), shape: start.shape }
  for (const timestep of scheduler.timesteps.slice(begin)) {
    latents = scheduler.step(model(scheduler.scaleModelInput(latents, timestep), timestep), timestep, latents)
  }
  return latents
}

t.test('every scheduler works with few and with very many steps', (t) => {
  for (const name of schedulerNames) {
    const failed = [1, 2, 3, 4, 14, 15, 333, 999, 1000].filter((steps) => !finite(sample(name, steps)))
    t.strictSame(failed, [], name)
  }
  for (const spacing of ['leading', 'linspace', 'trailing'] as const) {
    const names = schedulerNames.filter((name) => !/^(lcm|tcd|dpm\+\+-2s(?!-a))/.test(name))
    const failed = names.flatMap((name) =>
      [1, 2, 7, 1000]
        .filter((steps) => !finite(sample(name, steps, { spacing })))
        .map((steps) => `${name} ${steps}`),
    )
    t.strictSame(failed, [], spacing)
  }
  t.end()
})

t.test('all methods for the same equation agree with many steps', (t) => {
  const exact = sample('heun', 1000).data
  const names: SchedulerName[] = ['euler', 'lms', 'dpm2', 'dpm2-karras', 'lms-karras', 'heun-exponential']
  for (const name of names) {
    const error = sample(name, 1000).data.reduce((worst, x, i) => Math.max(worst, Math.abs(x - exact[i])), 0)
    t.ok(error < 0.05, `${name}: ${error}`)
  }
  t.end()
})

t.test('multistep methods have their orders for all prediction types', (t) => {
  const predictionTypes: PredictionType[] = ['epsilon', 'v_prediction', 'sample']
  for (const name of schedulerNames) {
    const failed = predictionTypes.filter((predictionType) => !finite(sample(name, 6, { predictionType })))
    t.strictSame(failed, [], name)
  }
  t.end()
})

t.test('a run can begin at every step', (t) => {
  for (const name of schedulerNames) {
    const { timesteps, order } = createScheduler(name, 9, schedule)
    const begins = Array.from(timesteps, (_, i) => i).filter((i) => i % order === 0)
    const failed = begins.filter((begin) => !finite(sample(name, 9, {}, begin)))
    t.strictSame(failed, [], name)
  }
  t.end()
})

t.test("LMS starts with an empty history: its first step is Euler's", (t) => {
  const random = new TorchRandom(1)
  const latents = random.normal([1, 1, 4, 4])
  const [first, second] = (['lms', 'euler'] as const).map((name) => {
    const scheduler = createScheduler(name, 10, schedule)
    scheduler.reset({ random, begin: 4 })
    const timestep = scheduler.timesteps[4]
    return scheduler.step(model(latents, timestep), timestep, latents).data
  })
  t.ok(first.every((x, i) => Math.abs(x - second[i]) < 1e-5))
  t.end()
})

t.test('PLMS with Runge-Kutta warm-up can begin at a whole step, or after the warm-up', (t) => {
  const options = { skipPrkSteps: false }
  for (const begin of [4, 8, 12, 13, 15]) t.ok(finite(sample('plms', 10, options, begin)), `begin ${begin}`)
  t.throws(() => sample('plms', 10, options, 5), RangeError)
  t.throws(() => createScheduler('plms', 3, schedule, options), /at least 4 steps/)
  for (const betas of [{ betaEnd: 0.6 }, { trainedBetas: new Array<number>(1000).fill(1) }])
    t.throws(
      () => createScheduler('euler', 3, { ...schedule, ...betas }),
      /betas for schedule that leave some/,
    )
  t.end()
})

t.test('arguments are neither changed nor kept', (t) => {
  for (const name of schedulerNames) {
    const run = (spoil: boolean) => {
      const scheduler = createScheduler(name, 6, schedule)
      scheduler.reset({ random: new TorchRandom(3), begin: 0 })
      let latents: Tensor = new TorchRandom(4).normal([1, 1, 4, 4])
      let unchanged = true
      for (const timestep of scheduler.timesteps) {
        const before = latents.data.slice()
        const prediction = model(scheduler.scaleModelInput(latents, timestep), timestep)
        const predicted = prediction.data.slice()
        const next = scheduler.step(prediction, timestep, latents)
        unchanged &&= before.every((x, i) => x === latents.data[i])
        unchanged &&= predicted.every((x, i) => x === prediction.data[i])
        if (spoil) [latents, prediction].forEach(({ data }) => data.fill(NaN))
        latents = next
      }
      return { latents: [...latents.data], unchanged }
    }
    const [kept, spoilt] = [run(false), run(true)]
    t.ok(kept.unchanged, `${name} leaves its arguments alone`)
    t.strictSame(spoilt.latents, kept.latents, `${name} does not depend on them later`)
  }
  t.end()
})

t.test('a second run gives the same latents', (t) => {
  for (const name of schedulerNames) {
    const scheduler = createScheduler(name, 7, schedule)
    const run = () => {
      scheduler.reset({ random: new TorchRandom(3), begin: 0 })
      t.equal(scheduler.denoised, undefined, 'no preview before the first step')
      let latents: Tensor = new TorchRandom(4).normal([1, 1, 4, 4])
      for (const timestep of scheduler.timesteps)
        latents = scheduler.step(model(latents, timestep), timestep, latents)
      t.ok(scheduler.denoised && finite(scheduler.denoised))
      return [...latents.data]
    }
    t.strictSame(run(), run(), name)
  }
  t.end()
})

t.test('timesteps, levels and the forward process', (t) => {
  const clean = tensor(new Float32Array(16).fill(2))
  const noise = tensor(new Float32Array(16).fill(1))
  for (const name of schedulerNames) {
    const scheduler = createScheduler(name, 8, schedule)
    t.equal(scheduler.sigmas.length, scheduler.timesteps.length, `${name}: one level for each timestep`)
    const sigma = scheduler.sigmas[2]
    scheduler.reset({ random: new TorchRandom(1), begin: 2 })
    const got = scheduler.addNoise(clean, noise, scheduler.timesteps[2]).data[0]
    const [inSigmaSpace, inAlphaSpace] = [2 + sigma, (2 + sigma) / Math.sqrt(1 + sigma ** 2)]
    const nearest = Math.min(Math.abs(got - inSigmaSpace), Math.abs(got - inAlphaSpace))
    t.ok(nearest < 1e-4, `${name}: noised to ${got}`)
  }
  const euler = createScheduler('euler', 8, schedule)
  t.ok(Math.abs(euler.addNoise(clean, noise, 999).data[0] - 16.6146) < 1e-3, 'any timestep before a run')
  t.throws(() => createScheduler('ddim', 8, schedule).addNoise(clean, noise, 1000), RangeError)
  t.throws(() => euler.addNoise(clean, tensor(new Float32Array(4)), 999), RangeError)
  t.end()
})

t.test('calls in the wrong order are refused', (t) => {
  const random = new TorchRandom(1)
  const latents = random.normal([1, 1, 4, 4])
  const step = (scheduler: ReturnType<typeof createScheduler>, timestep: number) =>
    scheduler.step(latents, timestep, latents)

  const euler = createScheduler('euler', 2, schedule)
  t.throws(() => step(euler, 500), /one of the scheduler's timesteps but received 500/)
  step(euler, 999)
  t.throws(() => step(euler, 999), /Expected timestep 0 \(number 1\) but received 999/)
  step(euler, 0)
  t.throws(() => step(euler, 0), /schedule has ended/)
  t.throws(() => euler.reset({ random, begin: 3 }), /between 0 and 2 for begin but received 3/)
  t.throws(() => euler.reset({ random, begin: 0.5 }), TypeError)
  t.doesNotThrow(() => euler.reset({ random, begin: 2 }), 'no step is left')
  t.throws(() => createScheduler('heun', 4, schedule).reset({ random, begin: 1 }), /multiple of 2/)

  const ancestral = createScheduler('euler-a', 2, schedule)
  t.throws(() => step(ancestral, 999), /adds noise: call reset/)
  const shape = tensor(new Float32Array(4))
  t.throws(() => createScheduler('ddim', 2, schedule).step(shape, 501, latents), /shape \[1, 1, 4, 4\]/)
  t.end()
})

t.test('names, steps and options are checked', (t) => {
  const make = (name: string, options: unknown = {}, steps: unknown = 10) =>
    createScheduler(name, steps as number, schedule, options as SchedulerOptions)

  t.throws(() => make('dpm++2m'), {
    name: 'RangeError',
    message:
      /^Expected one of ddpm, .* for scheduler but received "dpm\+\+2m" .*, did you mean dpm\+\+-2m\?$/,
  })
  t.throws(() => make('quantum'), { name: 'RangeError', message: /received "quantum" of type string$/ })
  const long = 'k'.repeat(1_000_000)
  t.throws(() => make(long), /for scheduler but received "k{60}…" of type string$/)
  t.throws(() => make('ddim', { [long]: 1 }), /Unknown scheduler option k{60}…\. Known options: /)
  t.throws(() => make('ddim', { spacing: long }), /for spacing but received "k{60}…" of type string/)
  t.throws(() => make('ddim-karras'), RangeError)
  t.throws(() => make(3 as never), /received 3 of type number/)
  t.throws(
    () => make('ddim', { etta: 1 }),
    /Unknown scheduler option etta, did you mean eta\? Known options: /,
  )
  t.throws(
    () => make('ddim', { frequency: 1 }),
    /Unknown scheduler option frequency\. Known options: predictionType, /,
  )
  t.throws(() => make('euler', { eta: 1 }), /eta has no effect on euler, which takes/)
  t.throws(() => make('ddim', { eta: 1.5 }), { name: 'RangeError', message: /between 0 and 1 for eta/ })
  t.throws(() => make('ddim', { eta: '1' }), { name: 'TypeError', message: /received "1" of type string/ })
  t.throws(() => make('ddim', { eta: NaN }), RangeError)
  t.throws(() => make('ddim', { spacing: 'trailling' }), {
    name: 'RangeError',
    message: /did you mean trailing\?/,
  })
  t.throws(() => make('ddim', { spacing: null }), TypeError)
  t.throws(() => make('ddim', []), TypeError)
  t.throws(() => make('dpm++-2m', { order: 4 }), { name: 'RangeError', message: /between 1 and 3 for order/ })
  t.throws(() => make('lms', { order: 1.5 }), RangeError)
  t.throws(() => make('unipc', { solverType: 'heun' }), /one of bh1, bh2/)
  t.throws(() => make('euler-karras', { sigmas: 'beta' }), /Expected karras for sigmas/)
  t.throws(() => make('plms', { skipPrkSteps: 1 }), TypeError)
  t.doesNotThrow(() => make('euler-karras', { sigmas: 'karras', predictionType: undefined }))
  for (const steps of [0, 1001, 2.5, -1]) t.throws(() => make('ddim', {}, steps), RangeError, String(steps))
  t.throws(() => make('ddim', {}, '10'), TypeError)
  t.throws(() => createScheduler('ddim', 201, scheduleNamed('trained')), /between 1 and 200 for steps/)
  t.end()
})

t.test('the default is the scheduler of the schedule', (t) => {
  t.equal(defaultSchedulerName(schedule), 'dpm++-2m-karras')
  t.equal(defaultSchedulerName({ ...schedule, className: 'PNDMScheduler' }), 'plms')
  t.equal(defaultSchedulerName({ ...schedule, className: 'EulerAncestralDiscreteScheduler' }), 'euler-a')
  t.equal(defaultSchedulerName({ ...schedule, className: 'SomethingNew' }), 'dpm++-2m-karras')
  t.equal(defaultSchedulerName({ ...schedule, className: 'constructor' }), 'dpm++-2m-karras')
  t.strictSame(
    [...createScheduler('plms', 5, schedule).timesteps],
    [...createScheduler('pndm', 5, schedule).timesteps],
  )
  const trailing = createScheduler('euler', 2, { ...schedule, timestepSpacing: 'trailing' })
  t.strictSame([...trailing.timesteps], [999, 499], "the schedule's spacing")
  t.end()
})
