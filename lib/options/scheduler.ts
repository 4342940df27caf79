/** A scheduler, by its name or as an object, and its options. */
import {
  checkFunction,
  checkInteger,
  checkNumber,
  checkOneOf,
  checkRecord,
  expectation,
  isArray,
  isReadable,
} from '../check.js'
import { schedulerNames, type SchedulerName, type SchedulerOptions } from '../schedulers/index.js'
import type { Scheduler } from '../types.js'

export function checkScheduler(value: unknown, path: string): SchedulerName | Scheduler {
  if (typeof value === 'string') return checkOneOf(value, path, schedulerNames)
  if (!isReadable(value)) {
    throw new TypeError(expectation(`one of ${schedulerNames.join(', ')}, or a Scheduler`, path, value))
  }
  const scheduler = value as Scheduler
  for (const method of ['scaleModelInput', 'step', 'addNoise', 'reset'] as const) {
    const given = (value as Record<string, unknown>)[method]
    if (method !== 'reset' || given !== undefined) checkFunction(given, `${path}.${method}`)
  }
  checkNumber(scheduler.initNoiseSigma, `${path}.initNoiseSigma`, 0, Number.MAX_VALUE)
  if (scheduler.order !== undefined) checkInteger(scheduler.order, `${path}.order`, 1, 1000)
  const { timesteps, sigmas } = scheduler
  if (sigmas !== undefined && !isReadable(sigmas))
    throw new TypeError(expectation('array of numbers', `${path}.sigmas`, sigmas))
  if (!isReadable(timesteps) || typeof timesteps.length !== 'number') {
    throw new TypeError(expectation('array of numbers', `${path}.timesteps`, timesteps))
  }
  if (timesteps.length < 1)
    throw new RangeError(expectation('at least one number', `${path}.timesteps`, timesteps))
  for (let i = 0; i < timesteps.length; i++)
    checkNumber(timesteps[i], `${path}.timesteps[${i}]`, 0, Number.MAX_VALUE)
  return scheduler
}

/** The number of steps of a scheduler object. */
export function stepsOf({ timesteps, order = 1 }: Scheduler): number {
  return Math.max(Math.floor(timesteps.length / order), 1)
}

/** A copy of the object. The scheduler checks what is in it. */
export function checkSchedulerOptions(value: unknown, path: string): SchedulerOptions {
  const options: SchedulerOptions = { ...checkRecord(value, path) }
  // Copied, too, because a request may wait in the queue.
  if (isArray(options.timesteps)) options.timesteps = Array.from(options.timesteps as readonly number[])
  return options
}
