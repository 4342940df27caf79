/** The options of sampling methods, and their checks. */
import { checkBoolean, checkInteger, checkNumber, checkNumbers, checkOneOf, checkRecord } from '../check.js'
import { printable, shorten } from '../quote.js'
import { closest } from '../spelling.js'
import type { SchedulerOptions } from '../types.js'
import { sigmaSpacings, spacings } from './sigmas.js'

export type { SchedulerOptions }

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
  timesteps: (value, path) => void checkNumbers(value, path, { most: 1000 }),
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
  const given = { ...checkRecord(options, 'scheduler options') } as SchedulerOptions
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
