import t from 'tap'
import { createScheduler } from '../../lib/schedulers/index.js'
import type { Tensor } from '../../lib/types.js'
import {
  model,
  readTrajectories,
  scheduleNamed,
  StoredNoise,
  tensor,
  type TrajectoryCase,
} from './fixtures.js'

/** Tolerance as a fraction of the largest magnitude. diffusers computes in float32, we have factors in double. */
function toleranceOf({ name, schedule, exact, options }: TrajectoryCase): number {
  // The first level of the cosine schedule is 20,291: it multiplies the rounding error of a slope, in both
  // implementations.
  if (schedule === 'cosine' && (name === 'heun' || name === 'dpm2-a')) return 1e-3
  // diffusers' float32 sigma_up and sigma_down of DPM2 a have only two or three digits, so there are also exact cases.
  if (name === 'dpm2-a' && !exact) return 5e-4
  // The third order of the stochastic solver diverges; in double precision, diffusers' own result differs by 4e-4.
  if (name === 'dpm++-2s-sde' && options?.order === 3 && options.solverType === 'heun') return 5e-4
  return exact ? 5e-6 : 3e-5
}
/** Additional tolerance for float32 latents if a step divides their magnitude by thousands. */
const ROUNDING = 2 ** -22
const report = process.env.SCHEDULER_ERRORS !== undefined

const { start, clean, noises, cases } = readTrajectories()

/** Cases in which diffusers has no finite result. */
const notFinite = new Set<string>()
const errors = new Map<string, number>()

const magnitude = (data: Float32Array) =>
  data.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0)

/** Largest difference as a fraction of the largest magnitude; NaN if a value is not finite. */
function relativeError(got: Float32Array, want: Float32Array, before: Float32Array[] = []): number {
  const difference = magnitude(got.map((value, i) => value - want[i]))
  const rounding = Math.max(0, ...before.map(magnitude)) * ROUNDING
  return Math.max(difference - rounding, 0) / Math.max(magnitude(want), 1e-3)
}

function check(it: TrajectoryCase): string[] {
  const problems: string[] = []
  const tolerance = toleranceOf(it)
  const timestepTolerance = it.name === 'dpm2-a' && !it.exact ? 2e-2 : 1e-3
  const complain = (what: string, error: number, bound: number) => {
    if (!(error <= bound)) problems.push(`${what}: error ${error}`)
    const group = `${it.name}${it.options?.sigmas ? `-${it.options.sigmas}` : ''}${it.exact ? ' (exact)' : ''}`
    if (what !== 'timestep') errors.set(group, Math.max(errors.get(group) ?? 0, error))
  }
  const scheduler = createScheduler(it.name, it.steps, scheduleNamed(it.schedule), it.options)
  const begin = it.begin ?? 0
  if (scheduler.timesteps.length !== it.timesteps.length) {
    return [`${scheduler.timesteps.length} timesteps, expected ${it.timesteps.length}`]
  }
  it.timesteps.forEach((want, i) => {
    if (want !== null) complain('timestep', Math.abs(scheduler.timesteps[i] - want), timestepTolerance)
  })
  it.sigmas?.forEach((want, i) => complain('sigma', Math.abs(scheduler.sigmas[i] / want - 1), 4e-6))
  complain('initNoiseSigma', Math.abs(scheduler.initNoiseSigma / it.initNoiseSigma - 1), 4e-6)

  scheduler.reset({ random: new StoredNoise(noises), begin })
  let latents: Tensor = begin
    ? scheduler.addNoise(clean, start, scheduler.timesteps[begin])
    : tensor(start.data.map((value) => value * scheduler.initNoiseSigma))
  complain('first', relativeError(latents.data, it.first), tolerance)
  it.latents.forEach((want, i) => {
    const timestep = scheduler.timesteps[begin + i]
    const scaled = scheduler.scaleModelInput(latents, timestep)
    const prediction = model(scaled, timestep)
    // A step of two calls starts one call earlier.
    const before = [latents.data, i > 0 ? (it.latents[i - 2] ?? it.first) : latents.data]
    latents = scheduler.step(prediction, timestep, latents)
    if (want.every(Number.isFinite))
      complain(`step ${i}`, relativeError(latents.data, want, before), tolerance)
    else {
      notFinite.add(`${it.name} ${it.steps} ${it.schedule} ${JSON.stringify(it.options)}`)
      if (!latents.data.every(Number.isFinite)) problems.push(`step ${i}: not finite`)
    }
    if (it.denoised?.[i].every(Number.isFinite))
      complain(`denoised ${i}`, relativeError(scheduler.denoised!.data, it.denoised[i], before), tolerance)
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
