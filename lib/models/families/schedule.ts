import type { PredictionType } from '../../types.js'
import type { ConfigReader } from './config-reader.js'
import type { ScheduleDescription } from '../model-description.js'
import { readSchedulerClass } from './scheduler-class.js'

export const BETA_SCHEDULES = ['linear', 'scaled_linear', 'squaredcos_cap_v2'] as const
export const PREDICTION_TYPES = ['epsilon', 'v_prediction', 'sample'] as const
/** What older files of diffusers call 'sample'. */
const OLD_SAMPLE = 'original_sample'
export const ALGORITHM_TYPES = ['sde-dpmsolver++'] as const
export const METHOD_OPTIONS = {
  sigmas: ['karras', 'exponential', 'beta'],
  finalSigmasType: ['zero', 'sigma_min'],
  solverType: ['midpoint', 'heun', 'bh1', 'bh2'],
  varianceType: ['fixed_small', 'fixed_large'],
} as const
export const TIMESTEP_SPACINGS = ['leading', 'linspace', 'trailing'] as const

/** The schedule of Stable Diffusion 1 and 2, for models without a scheduler_config.json. */
export function defaultSchedule(predictionType: PredictionType = 'epsilon'): ScheduleDescription {
  return {
    trainTimesteps: 1000,
    betaStart: 0.00085,
    betaEnd: 0.012,
    betaSchedule: 'scaled_linear',
    predictionType,
    stepsOffset: 1,
    setAlphaToOne: false,
    rescaleBetasZeroSnr: false,
    clipSample: false,
  }
}

/**
 * Reads scheduler_config.json. As in diffusers, missing fields have the defaults of the class that it names.
 *
 * @param warnings gets a line for each field with a value that is not supported
 */
export function scheduleFromDiffusers(c: ConfigReader, warnings: string[] = []): ScheduleDescription {
  const className = c.has('_class_name') ? c.string('_class_name') : undefined
  const is = (...names: string[]) => names.includes(className ?? '')
  if (
    className !== undefined &&
    /FlowMatch|EDM|VQDiffusion|Karras(Ve)?Scheduler|Cosine|ScoreSde/.test(className)
  ) {
    throw c.refuse('_class_name', 'a scheduler of a discrete beta schedule')
  }
  // Defaults are Stable Diffusion's betas for latent consistency, their bounds for Heun, and DDPM's betas for others.
  const consistency = is('LCMScheduler', 'TCDScheduler')
  const bounds =
    consistency ||
    is('HeunDiscreteScheduler', 'KDPM2DiscreteScheduler', 'KDPM2AncestralDiscreteScheduler') ||
    is('DPMSolverSDEScheduler')
  const ddim = is('DDIMScheduler', 'DDIMParallelScheduler')
  const trainTimesteps = c.integer('num_train_timesteps', 1000, 1, 100_000)
  const schedule: ScheduleDescription = {
    trainTimesteps,
    betaStart: c.number('beta_start', bounds ? 0.00085 : 0.0001, 0, 1),
    betaEnd: c.number('beta_end', bounds ? 0.012 : 0.02, 0, 1),
    betaSchedule: c.choice('beta_schedule', BETA_SCHEDULES, consistency ? 'scaled_linear' : 'linear'),
    predictionType:
      c.get('prediction_type') === OLD_SAMPLE
        ? 'sample'
        : c.choice('prediction_type', PREDICTION_TYPES, 'epsilon'),
    stepsOffset: c.integer('steps_offset', 0, 0, trainTimesteps),
    setAlphaToOne: c.boolean('set_alpha_to_one', consistency || ddim),
    rescaleBetasZeroSnr: c.boolean('rescale_betas_zero_snr', false),
    clipSample: c.boolean('clip_sample', ddim || is('DDPMScheduler', 'DDPMParallelScheduler')),
    ...readSchedulerClass(c, className, warnings),
  }
  if (className !== undefined) schedule.className = className
  if (c.has('timestep_spacing')) schedule.timestepSpacing = c.choice('timestep_spacing', TIMESTEP_SPACINGS)
  if (c.has('trained_betas')) schedule.trainedBetas = readBetas(c, 'trained_betas', trainTimesteps)
  if (!(signalLeft(schedule) > LEAST_SIGNAL))
    throw c.fail(schedule.trainedBetas ? 'trained_betas' : 'beta_end', 'betas that leave some of the image')
  return schedule
}

/** Where less than this is left of the image, noise levels are infinite in float32. */
const LEAST_SIGNAL = 1e-40

/** The part of an image's variance that is left after all timesteps: ᾱ of the last. */
function signalLeft({
  trainTimesteps,
  betaStart,
  betaEnd,
  betaSchedule,
  trainedBetas,
}: ScheduleDescription): number {
  if (trainedBetas) return trainedBetas.reduce((left, beta) => left * (1 - beta), 1)
  // The cosine schedule has no bounds.
  if (betaSchedule === 'squaredcos_cap_v2') return 1
  const power = betaSchedule === 'linear' ? 1 : 2
  const [first, last] = [betaStart ** (1 / power), betaEnd ** (1 / power)]
  let left = 1
  for (let t = 0; t < trainTimesteps; t++)
    left *= 1 - (first + ((last - first) * t) / Math.max(trainTimesteps - 1, 1)) ** power
  return left
}

export function readBetas(c: ConfigReader, key: string, length: number): number[] {
  const betas = c.get(key)
  const valid = (b: unknown) => typeof b === 'number' && b >= 0 && b < 1
  if (Array.isArray(betas) && betas.length === length && betas.every(valid)) return betas as number[]
  throw c.fail(key, `list of ${length} numbers between 0 and 1`)
}
