/** Sampling methods by name. */
import { checkOneOf, expectation, isReadable } from '../check.js'
import type { ScheduleDescription, Scheduler } from '../types.js'
import type { SchedulerBase } from './base.js'
import { checkSchedule } from './check-schedule.js'
import { DdimScheduler } from './ddim.js'
import { DdpmScheduler } from './ddpm.js'
import { DeisScheduler } from './deis.js'
import { Dpm2Scheduler } from './dpm2.js'
import { Dpmpp2mScheduler } from './dpmpp-2m.js'
import { Dpmpp2sScheduler } from './dpmpp-2s.js'
import { Dpmpp2sAncestralScheduler } from './dpmpp-2s-ancestral.js'
import { DpmppSdeScheduler } from './dpmpp-sde.js'
import { EulerScheduler } from './euler.js'
import { EulerAncestralScheduler } from './euler-ancestral.js'
import { HeunScheduler } from './heun.js'
import { LcmScheduler } from './lcm.js'
import { LmsScheduler } from './lms.js'
import {
  type AcceptedOptions,
  checkSchedulerOptions,
  checkSteps,
  type SchedulerOption,
  type SchedulerOptions,
} from './options.js'
import { PndmScheduler } from './pndm.js'
import type { SchedulerSettings } from './settings.js'
import { type SigmaSpacing, type Spacing, sigmaSpacings } from './sigmas.js'
import { TcdScheduler } from './tcd.js'
import { trainingSchedule } from './training-schedule.js'
import { UniPcScheduler } from './unipc.js'

export type { SchedulerOptions } from './options.js'
export type { SigmaSpacing, Spacing } from './sigmas.js'
export { spacings } from './sigmas.js'
export { trainingSchedule, type TrainingSchedule } from './training-schedule.js'

export type TimestepMethod = 'ddpm' | 'ddim' | 'plms' | 'pndm' | 'lcm' | 'tcd'
export type SigmaMethod =
  | 'euler'
  | 'euler-a'
  | 'heun'
  | 'lms'
  | 'dpm++-2m'
  | 'dpm++-2m-sde'
  | 'dpm++-sde'
  | 'dpm++-2s'
  | 'dpm++-2s-sde'
  | 'dpm++-2s-a'
  | 'dpm2'
  | 'dpm2-a'
  | 'deis'
  | 'unipc'

/** The name of a sampling method. Sigma-based methods also take a suffix: 'dpm++-2m-karras'. */
export type SchedulerName = TimestepMethod | SigmaMethod | `${SigmaMethod}-${SigmaSpacing}`

/** A built-in scheduler. `reset()` takes a `begin` that is a multiple of `order`. */
export interface BuiltInScheduler extends Scheduler {
  readonly order: number
  readonly timesteps: Float64Array
  readonly sigmas: Float64Array
  reset(options: Parameters<NonNullable<Scheduler['reset']>>[0]): void
}

interface Method extends AcceptedOptions {
  make(settings: SchedulerSettings): SchedulerBase
  spacing: Spacing
  /** Defaults of this method. */
  eta?: number
  order?: number
  /** Whether the last training timestep may have no signal, so that σ is infinite. */
  infinite?: boolean
}

const consistency: SchedulerOption[] = [
  ...(['predictionType', 'rescaleBetasZeroSnr', 'originalInferenceSteps', 'timesteps'] as const),
]

const common: SchedulerOption[] = ['predictionType', 'spacing', 'rescaleBetasZeroSnr']
const levels: SchedulerOption[] = [...common, 'sigmas']

function timestepMethod(make: Method['make'], more: SchedulerOption[], rest: Partial<Method> = {}): Method {
  return { make, spacing: 'leading', options: [...common, ...more], ...rest }
}

function sigmaMethod(make: Method['make'], more: SchedulerOption[] = [], rest: Partial<Method> = {}): Method {
  return { make, spacing: 'linspace', options: [...levels, ...more], ...rest }
}

const multistep: SchedulerOption[] = ['order', 'solverType', 'lowerOrderFinal', 'finalSigmasType']
const dpmpp2m = { order: 2, maxOrder: 3, solverTypes: ['midpoint', 'heun'] }

function singlestepMethod(make: Method['make']): Method {
  const method = sigmaMethod(make, multistep, dpmpp2m)
  return { ...method, options: method.options.filter((option) => option !== 'spacing') }
}

const plms = timestepMethod((s) => new PndmScheduler(s), ['skipPrkSteps'])

const methods: Record<TimestepMethod | SigmaMethod, Method> = {
  ddpm: timestepMethod((s) => new DdpmScheduler(s), ['varianceType'], { infinite: true }),
  ddim: timestepMethod((s) => new DdimScheduler(s), ['eta'], { infinite: true, eta: 0 }),
  plms,
  pndm: plms,
  lcm: {
    ...timestepMethod((s) => new LcmScheduler(s), [], { infinite: true }),
    options: consistency,
  },
  tcd: {
    ...timestepMethod((s) => new TcdScheduler(s), [], { infinite: true, eta: 0.3 }),
    options: [...consistency, 'eta'],
  },
  euler: sigmaMethod((s) => new EulerScheduler(s), ['finalSigmasType']),
  'euler-a': sigmaMethod((s) => new EulerAncestralScheduler(s), ['eta']),
  heun: sigmaMethod((s) => new HeunScheduler(s)),
  lms: sigmaMethod((s) => new LmsScheduler(s), ['order'], { order: 4, maxOrder: 4 }),
  'dpm++-2m': sigmaMethod((s) => new Dpmpp2mScheduler(s), [...multistep, 'eulerAtFinal'], dpmpp2m),
  'dpm++-2m-sde': sigmaMethod((s) => new Dpmpp2mScheduler(s, true), [...multistep, 'eulerAtFinal'], dpmpp2m),
  'dpm++-sde': sigmaMethod((s) => new DpmppSdeScheduler(s), ['eta']),
  'dpm++-2s': singlestepMethod((s) => new Dpmpp2sScheduler(s)),
  'dpm++-2s-sde': singlestepMethod((s) => new Dpmpp2sScheduler(s, true)),
  'dpm++-2s-a': sigmaMethod((s) => new Dpmpp2sAncestralScheduler(s), ['eta']),
  dpm2: sigmaMethod((s) => new Dpm2Scheduler(s)),
  'dpm2-a': sigmaMethod((s) => new Dpm2Scheduler(s, true), ['eta']),
  deis: sigmaMethod((s) => new DeisScheduler(s), ['order', 'lowerOrderFinal'], { order: 2, maxOrder: 3 }),
  unipc: sigmaMethod((s) => new UniPcScheduler(s), multistep, {
    order: 2,
    maxOrder: 3,
    solverTypes: ['bh1', 'bh2'],
  }),
}

/** All names of built-in schedulers. */
export const schedulerNames: readonly SchedulerName[] = Object.entries(methods).flatMap(
  ([name, { options }]) => {
    const suffixes = options.includes('sigmas') ? sigmaSpacings.map((kind) => `-${kind}`) : []
    return ['', ...suffixes].map((suffix) => `${name}${suffix}` as SchedulerName)
  },
)

/**
 * Creates a scheduler for a run of `steps` steps.
 *
 * @param steps 1…1000, and at most the length of the training schedule
 * @param schedule the model's training schedule
 * @param options options that have no effect on the method are refused
 * @throws {TypeError} an unknown option, or a wrong type
 * @throws {RangeError} an unknown name, or a value out of bounds
 */
export function createScheduler(
  name: SchedulerName | (string & {}),
  steps: number,
  schedule: ScheduleDescription,
  options: SchedulerOptions = {},
): BuiltInScheduler {
  const { base, suffix } = parseName(name)
  schedule = checkSchedule(schedule)
  const method = methods[base]
  const given = {
    ...ownOptions(base, method, schedule),
    ...definedOf(checkSchedulerOptions(name, method, options)),
  }
  checkSteps(steps, schedule.trainTimesteps)
  if (suffix && given.sigmas && given.sigmas !== suffix) {
    throw new TypeError(
      `Expected ${suffix} for sigmas, as the name ${name} says, but received ${given.sigmas}`,
    )
  }
  const described = {
    ...schedule,
    rescaleBetasZeroSnr: given.rescaleBetasZeroSnr ?? schedule.rescaleBetasZeroSnr,
  }
  return method.make({
    steps,
    training: trainingSchedule(described, { finite: !method.infinite }),
    cosine: schedule.betaSchedule === 'squaredcos_cap_v2',
    predictionType: given.predictionType ?? schedule.predictionType,
    spacing: given.spacing ?? schedule.timestepSpacing ?? method.spacing,
    stepsOffset: schedule.stepsOffset,
    setAlphaToOne: schedule.setAlphaToOne,
    clipSample: schedule.clipSample,
    sigmas: suffix ?? given.sigmas,
    finalSigmasType: given.finalSigmasType ?? 'zero',
    eta: given.eta ?? method.eta ?? 1,
    order: given.order ?? method.order ?? 1,
    solverType: given.solverType ?? (base === 'unipc' ? 'bh2' : 'midpoint'),
    lowerOrderFinal: given.lowerOrderFinal ?? true,
    eulerAtFinal: given.eulerAtFinal ?? false,
    skipPrkSteps: given.skipPrkSteps ?? true,
    varianceType: given.varianceType ?? 'fixed_small',
    timesteps: given.timesteps,
    originalInferenceSteps: Math.min(given.originalInferenceSteps ?? 50, schedule.trainTimesteps),
  })
}

function parseName(name: unknown): { base: keyof typeof methods; suffix: SigmaSpacing | undefined } {
  const known = checkOneOf(name, 'scheduler', schedulerNames)
  const suffix = sigmaSpacings.find((kind) => known.endsWith(`-${kind}`))
  return { base: (suffix ? known.slice(0, -suffix.length - 1) : known) as keyof typeof methods, suffix }
}

/**
 * What the model's files say about their own method, where it is the one in use. Of the noise levels, a name says it all:
 * 'euler' has none, whatever the files have.
 */
function ownOptions(base: string, method: Method, schedule: ScheduleDescription): SchedulerOptions {
  const files = methodOfFiles(schedule)
  const { methodOptions } = schedule
  if (!methodOptions || !files || methods[files] !== method) return {}
  const { sigmas: _, ...own } = methodOptions
  return checkSchedulerOptions(base, method, own)
}

/** Without options that are undefined: these stand for the default. */
function definedOf(options: SchedulerOptions): SchedulerOptions {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))
}

/** The names of diffusers' classes. */
const classNames = new Map<string, TimestepMethod | SigmaMethod>(
  Object.entries({
    DDPMScheduler: 'ddpm',
    DDPMParallelScheduler: 'ddpm',
    DDIMScheduler: 'ddim',
    DDIMParallelScheduler: 'ddim',
    PNDMScheduler: 'plms',
    EulerDiscreteScheduler: 'euler',
    EulerAncestralDiscreteScheduler: 'euler-a',
    HeunDiscreteScheduler: 'heun',
    LMSDiscreteScheduler: 'lms',
    DPMSolverMultistepScheduler: 'dpm++-2m',
    DPMSolverSinglestepScheduler: 'dpm++-2s',
    DEISMultistepScheduler: 'deis',
    DPMSolverSDEScheduler: 'dpm++-sde',
    KDPM2DiscreteScheduler: 'dpm2',
    KDPM2AncestralDiscreteScheduler: 'dpm2-a',
    UniPCMultistepScheduler: 'unipc',
    LCMScheduler: 'lcm',
    TCDScheduler: 'tcd',
  } satisfies Record<string, TimestepMethod | SigmaMethod>),
)

const stochastic = new Map<string, SigmaMethod>([
  ['dpm++-2m', 'dpm++-2m-sde'],
  ['dpm++-2s', 'dpm++-2s-sde'],
])

/** The method that the model's files name, without a suffix; undefined if they name none that is known. */
function methodOfFiles({
  className,
  algorithmType,
}: ScheduleDescription): TimestepMethod | SigmaMethod | undefined {
  const method = classNames.get(className ?? '')
  return (algorithmType && method && stochastic.get(method)) ?? method
}

/** The method that the model's files name, or else 'dpm++-2m-karras'. */
export function defaultSchedulerName(schedule: ScheduleDescription): SchedulerName {
  if (!isReadable(schedule)) throw new TypeError(expectation('object', 'schedule', schedule))
  const method = methodOfFiles(schedule)
  if (method === undefined) return 'dpm++-2m-karras'
  const sigmas = schedule.methodOptions?.sigmas
  const name = `${method}-${sigmas}` as SchedulerName
  return sigmas !== undefined && schedulerNames.includes(name) ? name : method
}
