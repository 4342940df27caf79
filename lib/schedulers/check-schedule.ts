import { checkBoolean, checkInteger, checkNumber, checkNumbers, checkOneOf, checkRecord } from '../check.js'
import type { ScheduleDescription } from '../types.js'
import { spacings } from './sigmas.js'

/** Longer training schedules are refused: published ones have 1,000 timesteps. */
const MAX_TIMESTEPS = 100_000

/** A copy of a training schedule. Callers can pass their own to createScheduler(). */
export function checkSchedule(value: unknown): ScheduleDescription {
  const s = { ...checkRecord(value, 'schedule') } as Record<keyof ScheduleDescription, unknown>
  const path = (key: keyof ScheduleDescription) => `schedule.${key}`
  const beta = (key: 'betaStart' | 'betaEnd') => checkNumber(s[key], path(key), 0, 1)
  const flag = (key: 'setAlphaToOne' | 'rescaleBetasZeroSnr' | 'clipSample') =>
    checkBoolean(s[key], path(key))
  const trainTimesteps = checkInteger(s.trainTimesteps, path('trainTimesteps'), 1, MAX_TIMESTEPS)
  const trained =
    s.trainedBetas === undefined
      ? undefined
      : checkNumbers(s.trainedBetas, path('trainedBetas'), { count: trainTimesteps })
  return {
    className: typeof s.className === 'string' ? s.className : undefined,
    trainTimesteps,
    betaStart: beta('betaStart'),
    betaEnd: beta('betaEnd'),
    betaSchedule: checkOneOf(s.betaSchedule, path('betaSchedule'), [
      'linear',
      'scaled_linear',
      'squaredcos_cap_v2',
    ]),
    ...(trained && { trainedBetas: Array.from(trained) }),
    predictionType: checkOneOf(s.predictionType, path('predictionType'), [
      'epsilon',
      'v_prediction',
      'sample',
    ]),
    ...(s.timestepSpacing !== undefined && {
      timestepSpacing: checkOneOf(s.timestepSpacing, path('timestepSpacing'), spacings),
    }),
    stepsOffset: checkInteger(s.stepsOffset, path('stepsOffset'), -MAX_TIMESTEPS, MAX_TIMESTEPS),
    setAlphaToOne: flag('setAlphaToOne'),
    rescaleBetasZeroSnr: flag('rescaleBetasZeroSnr'),
    clipSample: flag('clipSample'),
    ...(s.algorithmType !== undefined && {
      algorithmType: checkOneOf(s.algorithmType, path('algorithmType'), ['sde-dpmsolver++'] as const),
    }),
    ...(s.methodOptions !== undefined && {
      // What is in it, the options' own checks say.
      methodOptions: { ...checkRecord(s.methodOptions, path('methodOptions')) },
    }),
  }
}
