import type { SchedulerSettings } from './settings.js'
import { linspace, spacedTimesteps } from './sigmas.js'

/**
 * The timesteps of consistency models (LCM, TCD): a subset of those that the model was distilled on, or those that the
 * caller gave. For more steps than the former, timesteps from T−1 down.
 *
 * @throws {RangeError} the given timesteps are not one for each step, in descending order, of the training schedule
 */
export function consistencyTimesteps(settings: SchedulerSettings): readonly number[] {
  const { steps, training, originalInferenceSteps: original, timesteps } = settings
  if (timesteps) return checkTimesteps(timesteps, steps, training.timesteps)
  if (steps > original) {
    return spacedTimesteps({ ...settings, spacing: 'trailing', trainTimesteps: training.timesteps })
  }
  const ratio = Math.floor(training.timesteps / original)
  return linspace(0, original, steps + 1)
    .slice(0, -1)
    .map((i) => (original - Math.floor(i)) * ratio - 1)
}

function checkTimesteps(timesteps: readonly number[], steps: number, T: number): readonly number[] {
  const valid = (t: number, i: number) =>
    Number.isInteger(t) && t >= 0 && t < T && (i === 0 || t < timesteps[i - 1])
  if (timesteps.length === steps && timesteps.every(valid)) return timesteps
  throw new RangeError(
    `Expected ${steps} integers between 0 and ${T - 1} in descending order for timesteps, as there are ${steps} steps, ` +
      `but received [${timesteps.slice(0, 8).join(', ')}${timesteps.length > 8 ? ', …' : ''}]`,
  )
}
