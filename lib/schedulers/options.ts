/** The options of sampling methods, and their checks. */
import { checkBoolean, checkInteger, checkNumber, checkOneOf, expectation, isReadable } from '../check.js'
import { printable, shorten } from '../quote.js'
import { closest } from '../spelling.js'
import type { PredictionType } from '../types.js'
import { type SigmaSpacing, type Spacing, sigmaSpacings, spacings } from './sigmas.js'

/** The options of sampling methods. Defaults are those of diffusers. */
export interface SchedulerOptions {
  /** What the UNet predicts. Default: as in the model's schedule. */
  predictionType?: PredictionType
  /** Spacing of the timesteps. Default: as in the model's schedule, otherwise the method's own. */
  spacing?: Spacing
  /** A formula for the noise levels in place of those of the timesteps; the same as the suffix of the name. */
  sigmas?: SigmaSpacing
  /** The last noise level: none, or the lowest one of the training schedule. Default: 'zero'. */
  finalSigmasType?: 'zero' | 'sigma_min'
  /** Whether the last training timestep is pure noise (Lin et al. 2023). Default: as in the model's schedule. */
  rescaleBetasZeroSnr?: boolean
  /** Fraction 0…1 of the reverse SDE's noise. Default: 0 for DDIM, 1 for ancestral and SDE methods. */
  eta?: number
  /** Order of multistep methods: LMS 1…4 (default 4), DPM++ 2M and UniPC 1…3 (default 2). */
  order?: number
  /** DPM++ 2M: 'midpoint' (default) or 'heun'; UniPC: 'bh1' or 'bh2' (default). */
  solverType?: 'midpoint' | 'heun' | 'bh1' | 'bh2'
  /** Whether the last steps of short runs have a lower order. Default: true. */
  lowerOrderFinal?: boolean
  /** Whether the very last step is of first order. Default: false. */
  eulerAtFinal?: boolean
  /** PLMS: whether to skip the Runge–Kutta warm-up, as Stable Diffusion does. Default: true. */
  skipPrkSteps?: boolean
  /** DDPM: the lower or upper bound as the variance of the reverse steps. Default: 'fixed_small'. */
  varianceType?: 'fixed_small' | 'fixed_large'
  /** LCM: number of steps of the schedule that the model was distilled on, 1…1000. Default: 50. */
  originalInferenceSteps?: number
}

export type SchedulerOption = keyof SchedulerOptions

type Check = (value: unknown, path: string) => void

const oneOf =
  (...names: readonly string[]): Check =>
  (value, path) =>
    void checkOneOf(value, path, names)

const boolean: Check = (value, path) => void checkBoolean(value, path)

const number =
  (from: number, to: number): Check =>
  (value, path) =>
    void checkNumber(value, path, from, to)

const integer =
  (from: number, to: number): Check =>
  (value, path) =>
    void checkInteger(value, path, from, to)

/** Checks that hold for every method. A method narrows `order` and `solverType` down. */
const checks: Record<SchedulerOption, Check> = {
  predictionType: oneOf('epsilon', 'v_prediction', 'sample'),
  spacing: oneOf(...spacings),
  sigmas: oneOf(...sigmaSpacings),
  finalSigmasType: oneOf('zero', 'sigma_min'),
  rescaleBetasZeroSnr: boolean,
  eta: number(0, 1),
  order: integer(1, 4),
  solverType: oneOf('midpoint', 'heun', 'bh1', 'bh2'),
  lowerOrderFinal: boolean,
  eulerAtFinal: boolean,
  skipPrkSteps: boolean,
  varianceType: oneOf('fixed_small', 'fixed_large'),
  originalInferenceSteps: integer(1, 1000),
}

const known = Object.keys(checks) as SchedulerOption[]

/** What one method accepts. */
export interface AcceptedOptions {
  options: readonly SchedulerOption[]
  maxOrder?: number
  solverTypes?: readonly string[]
}

/**
 * Refuses unknown options, options that have no effect on the method, wrong types and values out of bounds.
 *
 * @throws {TypeError}
 * @throws {RangeError}
 */
export function checkSchedulerOptions(
  name: string,
  accepted: AcceptedOptions,
  options: unknown,
): SchedulerOptions {
  if (!isReadable(options) || Array.isArray(options)) {
    throw new TypeError(expectation('object', 'scheduler options', options))
  }
  const given = { ...options } as SchedulerOptions
  for (const [key, value] of Object.entries(given)) {
    const option = key as SchedulerOption
    if (!known.includes(option)) {
      const near = closest(key, known)
      const hint = near ? `, did you mean ${near}?` : '.'
      throw new TypeError(
        `Unknown scheduler option ${printable(shorten(key))}${hint} Known options: ${known.join(', ')}`,
      )
    }
    if (value === undefined) continue
    if (!accepted.options.includes(option)) {
      throw new TypeError(
        `Scheduler option ${key} has no effect on ${name}, which takes ${accepted.options.join(', ')}`,
      )
    }
    if (option === 'order') checkInteger(value, option, 1, accepted.maxOrder ?? 1)
    else if (option === 'solverType') oneOf(...(accepted.solverTypes ?? []))(value, option)
    else checks[option](value, option)
  }
  return given
}

/** Checks the number of steps against the training schedule's length. */
export function checkSteps(steps: unknown, trainTimesteps: number): void {
  checkInteger(steps, 'steps', 1, Math.min(1000, trainTimesteps))
}
