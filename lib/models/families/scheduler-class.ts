import { show } from '../../quote.js'
import type { ScheduleDescription, SchedulerOptions } from '../../types.js'
import type { ConfigReader } from './config-reader.js'

/**
 * What scheduler_config.json says about the sampling method itself: its options, and what of it is not supported. diffusers
 * ignores fields that a class does not have, so every class lists its own. A field that is missing has the default of the
 * class.
 */
export type MethodDescription = Pick<ScheduleDescription, 'algorithmType' | 'methodOptions'>

interface Found {
  options: SchedulerOptions
  algorithmType?: 'sde-dpmsolver++'
  warnings: string[]
}

type Field = (c: ConfigReader, found: Found) => void

/** The method that is used for a class without an entry here, see defaultSchedulerName(). */
const FALLBACK = 'dpm++-2m-karras'

const warn = (found: Found, c: ConfigReader, key: string) =>
  found.warnings.push(
    `scheduler_config.json has ${key}: ${show(c.get(key))}, which is not supported: images differ from those of diffusers`,
  )

/** A field that may be missing or null. */
const flag = (c: ConfigReader, key: string, fallback: boolean) => (c.has(key) ? c.boolean(key) : fallback)

/** A field that is supported with these values alone, or where it is missing. */
const only =
  (key: string, ...values: unknown[]): Field =>
  (c, found) => {
    if (c.has(key) && !values.includes(c.get(key))) warn(found, c, key)
  }

/** One of several values, some of which are the default. Only the others are options. */
function choice<K extends keyof SchedulerOptions>(
  key: string,
  option: K,
  values: readonly SchedulerOptions[K][],
  defaults: readonly string[],
): Field {
  return (c, found) => {
    if (!c.has(key) || defaults.includes(c.get(key) as string)) return
    const value = values.find((known) => known === c.get(key))
    if (value === undefined) warn(found, c, key)
    else found.options[option] = value
  }
}

/** A flag with the default of the class; ours is `own`. */
function boolean(
  key: string,
  option: 'lowerOrderFinal' | 'eulerAtFinal' | 'skipPrkSteps',
  fallback: boolean,
  own: boolean,
): Field {
  return (c, found) => {
    const value = flag(c, key, fallback)
    if (value !== own) found.options[option] = value
  }
}

function integer(key: string, option: 'order' | 'originalInferenceSteps', own: number, most: number): Field {
  return (c, found) => {
    const value = c.has(key) ? c.integer(key, own, 1, most) : own
    if (value !== own) found.options[option] = value
  }
}

const sigmas: Field = (c, found) => {
  const kind = (['karras', 'exponential', 'beta'] as const).find((name) =>
    flag(c, `use_${name}_sigmas`, false),
  )
  if (kind) found.options.sigmas = kind
}

const algorithm: Field = (c, found) => {
  const value = c.has('algorithm_type') ? c.get('algorithm_type') : 'dpmsolver++'
  if (value === 'sde-dpmsolver++') found.algorithmType = value
  else if (value !== 'dpmsolver++' && value !== 'deis') warn(found, c, 'algorithm_type')
}

const clipRange: Field = (c, found) => {
  if (flag(c, 'clip_sample', true)) only('clip_sample_range', 1)(c, found)
}

/** The lowest λ of the schedules in use is about −5, without the cosine schedule. */
const lambdaClip: Field = (c, found) => {
  const value = c.get('lambda_min_clipped')
  if (typeof value !== 'number' || !Number.isFinite(value)) return
  if (value > -5 || c.get('beta_schedule') === 'squaredcos_cap_v2') warn(found, c, 'lambda_min_clipped')
}

const thresholding = only('thresholding', false)
const order = integer('solver_order', 'order', 2, 3)
const finalSigmas = choice('final_sigmas_type', 'finalSigmasType', ['sigma_min'], ['zero'])
const midpoint = choice('solver_type', 'solverType', ['heun'], ['midpoint', 'logrho', 'bh1', 'bh2'])
const flow = only('use_flow_sigmas', false)
const lowerOrder = (fallback: boolean) => boolean('lower_order_final', 'lowerOrderFinal', fallback, true)
const levelRange = [only('sigma_min'), only('sigma_max')]
const dpmSolver = [
  ...[order, sigmas, algorithm, midpoint, finalSigmas, thresholding, flow, lambdaClip],
  only('variance_type'),
]
const consistency = integer('original_inference_steps', 'originalInferenceSteps', 50, 1000)
const ddpm = [
  choice('variance_type', 'varianceType', ['fixed_large'], ['fixed_small']),
  ...[thresholding, clipRange],
]
const ddim = [thresholding, clipRange]

const CLASSES = new Map<string, readonly Field[]>(
  Object.entries({
    DDPMScheduler: ddpm,
    DDPMParallelScheduler: ddpm,
    DDIMScheduler: ddim,
    DDIMParallelScheduler: ddim,
    PNDMScheduler: [boolean('skip_prk_steps', 'skipPrkSteps', false, true)],
    EulerDiscreteScheduler: [
      ...[sigmas, finalSigmas, ...levelRange],
      ...[only('interpolation_type', 'linear'), only('timestep_type', 'discrete')],
    ],
    EulerAncestralDiscreteScheduler: [],
    HeunDiscreteScheduler: [sigmas, clipRange],
    LMSDiscreteScheduler: [sigmas],
    DPMSolverMultistepScheduler: [
      ...[...dpmSolver, lowerOrder(true), only('use_lu_lambdas', false)],
      boolean('euler_at_final', 'eulerAtFinal', false, false),
    ],
    DPMSolverSinglestepScheduler: [...dpmSolver, lowerOrder(false)],
    DEISMultistepScheduler: [order, sigmas, lowerOrder(true), thresholding, flow],
    DPMSolverSDEScheduler: [sigmas],
    KDPM2DiscreteScheduler: [sigmas],
    KDPM2AncestralDiscreteScheduler: [sigmas],
    UniPCMultistepScheduler: [
      ...[order, sigmas, finalSigmas, lowerOrder(true), thresholding, flow, ...levelRange],
      choice('solver_type', 'solverType', ['bh1'], ['bh2', 'midpoint', 'heun', 'logrho']),
      ...[only('predict_x0', true), only('solver_p')],
      (c, found) => {
        const steps = c.get('disable_corrector')
        if (Array.isArray(steps) && steps.length > 0) warn(found, c, 'disable_corrector')
      },
    ],
    LCMScheduler: [consistency, thresholding, only('timestep_scaling', 10)],
    TCDScheduler: [consistency],
  } satisfies Record<string, Field[]>),
)

/**
 * Reads the options of the class that scheduler_config.json names.
 *
 * @param warnings gets a line for each field with a value that is not supported
 */
export function readSchedulerClass(
  c: ConfigReader,
  className: string | undefined,
  warnings: string[],
): MethodDescription {
  if (className === undefined) return {}
  const fields = CLASSES.get(className)
  if (!fields) {
    warnings.push(
      `scheduler_config.json names ${show(className)}, which is not supported: ${FALLBACK} takes its place`,
    )
    return {}
  }
  const found: Found = { options: {}, warnings }
  for (const read of fields) read(c, found)
  return {
    ...(found.algorithmType && { algorithmType: found.algorithmType }),
    ...(Object.keys(found.options).length > 0 && { methodOptions: found.options }),
  }
}

/** Classes whose fields are known; the others have a substitute. */
export const knownSchedulerClasses: readonly string[] = [...CLASSES.keys()]
