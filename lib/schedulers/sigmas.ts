/** The timesteps and noise levels of sampling methods. */
import { betaQuantile } from './beta-distribution.js'
import type { TrainingSchedule } from './training-schedule.js'

/** Spacing of the timesteps over the training schedule (Lin et al. 2023, table 2). */
export type Spacing = 'leading' | 'linspace' | 'trailing'
export const spacings: readonly Spacing[] = ['leading', 'linspace', 'trailing']

/** A formula for the noise levels in place of those of the timesteps. */
export type SigmaSpacing = 'karras' | 'exponential' | 'beta'
export const sigmaSpacings: readonly SigmaSpacing[] = ['karras', 'exponential', 'beta']

/** `numpy.linspace`: `count` numbers from `start` to `end`, of which the last is exact. */
export function linspace(start: number, end: number, count: number): number[] {
  const step = (end - start) / (count - 1)
  return Array.from({ length: count }, (_, i) => (i > 0 && i === count - 1 ? end : start + (i && i * step)))
}

/** Rounds to the nearest integer, and halves to the even one, as numpy and IEEE 754. */
export function roundHalfEven(x: number): number {
  const below = Math.floor(x)
  const rest = x - below
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1
  return below % 2 === 0 ? below : below + 1
}

export interface SpacingRequest {
  spacing: Spacing
  steps: number
  /** T, the length of the training schedule. */
  trainTimesteps: number
  /** Added to 'leading' timesteps (Stable Diffusion: 1). */
  stepsOffset: number
}

/**
 * `steps` timesteps in descending order. They are integers, except with 'linspace', which divides 0…T−1 evenly. The
 * offset never gives more than T−1, where diffusers would not find the timestep.
 */
export function spacedTimesteps({
  spacing,
  steps,
  trainTimesteps: T,
  stepsOffset,
}: SpacingRequest): number[] {
  switch (spacing) {
    case 'linspace':
      return linspace(0, T - 1, steps).reverse()
    case 'leading': {
      const ratio = Math.floor(T / steps)
      return Array.from({ length: steps }, (_, i) => Math.min((steps - 1 - i) * ratio + stepsOffset, T - 1))
    }
    case 'trailing': {
      // numpy.arange increments by the difference of its first two elements.
      const ratio = T - (T - T / steps)
      return Array.from({ length: steps }, (_, i) => Math.max(roundHalfEven(T - i * ratio) - 1, 0))
    }
  }
}

/**
 * Timesteps for methods that count the last interval as part of the schedule (DPM-Solver, UniPC): `steps` + 1 timesteps
 * without the last one.
 */
export function spacedIntervals(request: SpacingRequest): number[] {
  const { spacing, steps, trainTimesteps: T, stepsOffset } = request
  switch (spacing) {
    case 'linspace':
      return linspace(0, T - 1, steps + 1)
        .reverse()
        .slice(0, -1)
        .map(roundHalfEven)
    case 'leading': {
      const ratio = Math.floor(T / (steps + 1))
      // With more intervals than timesteps, all would be the same timestep.
      if (ratio === 0) return spacedTimesteps(request)
      return Array.from({ length: steps }, (_, i) => Math.min((steps - i) * ratio + stepsOffset, T - 1))
    }
    case 'trailing':
      return spacedTimesteps(request)
  }
}

/** The noise level at a timestep between training timesteps, linear in the timestep (`numpy.interp`). */
export function sigmaAt(sigmas: ArrayLike<number>, timestep: number): number {
  const last = sigmas.length - 1
  if (timestep <= 0) return sigmas[0]
  if (timestep >= last) return sigmas[last]
  const low = Math.floor(timestep)
  return sigmas[low] + (sigmas[low + 1] - sigmas[low]) * (timestep - low)
}

/** The timestep of a noise level, linear in the level's logarithm and clamped to the training schedule. */
export function timestepAt(training: TrainingSchedule, sigma: number): number {
  const { sigmas, timesteps } = training
  const logSigma = Math.log(Math.max(sigma, 1e-10))
  const logLevel = (t: number) => Math.fround(Math.log(sigmas[t]))
  // Finds the last training timestep whose level is not above sigma; the levels rise with t.
  let low = 0
  let high = timesteps - 1
  while (low < high) {
    const middle = (low + high + 1) >> 1
    if (logLevel(middle) <= logSigma) low = middle
    else high = middle - 1
  }
  low = Math.min(low, timesteps - 2)
  const [from, to] = [logLevel(low), logLevel(low + 1)]
  const weight = Math.min(Math.max((from - logSigma) / Math.fround(from - to), 0), 1)
  return (1 - weight) * low + weight * (low + 1)
}

/** `count` noise levels from `max` down to `min`. */
export function shapedSigmas(kind: SigmaSpacing, count: number, min: number, max: number): number[] {
  switch (kind) {
    case 'karras': {
      // Karras et al., "Elucidating the design space of diffusion-based generative models", 2022, eq. 5, ρ = 7.
      const [from, to] = [max ** (1 / 7), min ** (1 / 7)]
      return linspace(0, 1, count).map((ramp) => (from + ramp * (to - from)) ** 7)
    }
    case 'exponential':
      return linspace(Math.log(max), Math.log(min), count).map(Math.exp)
    case 'beta':
      // Lee et al., "Beta sampling is all you need", 2024: quantiles of Beta(0.6, 0.6).
      return linspace(0, 1, count).map((ramp) => min + betaQuantile(1 - ramp, 0.6, 0.6) * (max - min))
  }
}
