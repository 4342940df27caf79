import t from 'tap'
import { createScheduler } from '../../lib/schedulers/index.js'
import type { Tensor } from '../../lib/types.js'
import { model, readTrajectories, scheduleNamed, StoredNoise, tensor, type TrajectoryCase } from './fixtures.js'

/** Of the largest magnitude. diffusers computes its coefficients in float32; ours are double. */
const TOLERANCE = 1e-4
const report = process.env.SCHEDULER_ERRORS !== undefined

const { start, clean, noises, cases } = readTrajectories()

/** Cases where diffusers itself has no answer. */
const notFinite = new Set<string>()
const errors = new Map<string, number>()

/** Largest difference as a share of the largest magnitude; NaN where either side is not finite. */
function relativeError(got: Float32Array, want: Float32Array): number {
  let [difference, magnitude] = [0, 0]
  got.forEach((value, i) => {
    difference = Math.max(difference, Math.abs(value - want[i]))
    magnitude = Math.max(magnitude, Math.abs(want[i]))
  })
  return difference / Math.max(magnitude, 1e-3)
}

function check(it: TrajectoryCase): string[] {
  const problems: string[] = []
  const complain = (what: string, error: number, bound: number) => {
    if (!(error <= bound)) problems.push(`${what}: error ${error}`)
    const group = `${it.name}${it.options?.sigmas ? `-${it.options.sigmas}` : ''}`
    if (what !== 'timestep') errors.set(group, Math.max(errors.get(group) ?? 0, error))
  }
  const scheduler = createScheduler(it.name, it.steps, scheduleNamed(it.schedule), it.options)
  const begin = it.begin ?? 0
  if (scheduler.timesteps.length !== it.timesteps.length) {
    return [`${scheduler.timesteps.length} timesteps, expected ${it.timesteps.length}`]
  }
  it.timesteps.forEach((want, i) => {
    if (want !== null) complain('timestep', Math.abs(scheduler.timesteps[i] - want), 1e-3)
  })
  it.sigmas?.forEach((want, i) => complain('sigma', Math.abs(scheduler.sigmas[i] / want - 1), 4e-6))
  complain('initNoiseSigma', Math.abs(scheduler.initNoiseSigma / it.initNoiseSigma - 1), 4e-6)

  scheduler.reset({ random: new StoredNoise(noises), begin })
  let latents: Tensor = begin
    ? scheduler.addNoise(clean, start, scheduler.timesteps[begin])
    : tensor(start.data.map((value) => value * scheduler.initNoiseSigma))
  complain('first', relativeError(latents.data, it.first), TOLERANCE)
  it.latents.forEach((want, i) => {
    const timestep = scheduler.timesteps[begin + i]
    const scaled = scheduler.scaleModelInput(latents, timestep)
    const prediction = model(scaled, timestep)
    latents = scheduler.step(prediction, timestep, latents)
    if (want.every(Number.isFinite)) complain(`step ${i}`, relativeError(latents.data, want), TOLERANCE)
    else {
      notFinite.add(`${it.name} ${it.steps} ${it.schedule} ${JSON.stringify(it.options)}`)
      if (!latents.data.every(Number.isFinite)) problems.push(`step ${i}: not finite`)
    }
    if (it.denoised?.[i].every(Number.isFinite)) complain(`denoised ${i}`, relativeError(scheduler.denoised!.data, it.denoised[i]), TOLERANCE)
  })
  return problems
}

for (const name of new Set(cases.map((it) => it.name))) {
  t.test(name, (t) => {
    for (const it of cases.filter((other) => other.name === name)) {
      const { steps, schedule, begin, options } = it
      const label = `${name}, ${steps} steps, ${JSON.stringify({ schedule, begin, ...options })}`
      t.strictSame(check(it), [], label)
    }
    t.end()
  })
}

t.teardown(() => {
  if (report) console.error(errors, notFinite)
})
