import type { PredictionType, Tensor } from '../types.js'
import { SchedulerBase } from './base.js'
import type { SchedulerSettings } from './settings.js'
import { shapedSigmas, sigmaAt, spacedTimesteps, timestepAt } from './sigmas.js'
import { combine, copy, type Term } from './tensors.js'

/** The nodes of a schedule: one timestep and level each, and a last level that the run ends at. */
export interface SigmaNodes {
  timesteps: number[]
  /** One more than timesteps; float32, as the methods use them. */
  levels: Float32Array
}

/** Nodes by timestep spacing, or between the spacing's highest and lowest level where the levels have a formula. */
export function sigmaNodes(settings: SchedulerSettings): SigmaNodes {
  const { training, steps } = settings
  let timesteps = spacedTimesteps({ ...settings, trainTimesteps: training.timesteps }).map(Math.fround)
  let levels = timesteps.map((t) => sigmaAt(training.sigmas, t))
  if (settings.sigmas) {
    levels = shapedSigmas(settings.sigmas, steps, levels[steps - 1], levels[0])
    timesteps = levels.map((sigma) => timestepAt(training, sigma))
  }
  const final = settings.finalSigmasType === 'zero' ? 0 : training.sigmas[0]
  return { timesteps, levels: Float32Array.of(...levels, final) }
}

/**
 * Methods that work on latents x = x_0 + σ·ε, as Karras et al. (2022) write them: the UNet gets x / √(σ² + 1), and
 * dx/dσ = (x − x̂_0) / σ.
 */
export abstract class SigmaScheduler extends SchedulerBase {
  readonly timesteps: Float64Array
  readonly sigmas: Float64Array
  readonly initNoiseSigma: number

  /** @param calls the level of every UNet call, with its timestep */
  constructor(
    protected readonly settings: SchedulerSettings,
    protected readonly levels: Float32Array,
    calls: { timesteps: readonly number[]; sigmas: readonly number[] },
  ) {
    super()
    this.timesteps = Float64Array.from(calls.timesteps)
    this.sigmas = Float64Array.from(calls.sigmas)
    const highest = levels.reduce((a, b) => Math.max(a, b))
    // 'leading' does not start at pure noise: what is left of the signal has variance 1.
    this.initNoiseSigma = settings.spacing === 'leading' ? Math.sqrt(highest ** 2 + 1) : highest
  }

  protected override scaled(latents: Tensor): Tensor {
    return combine([1 / Math.sqrt(this.sigmas[this.index] ** 2 + 1), latents])
  }

  protected override noising(timestep: number): [signal: number, sigma: number] {
    const index = this.find(timestep)
    return [1, index >= 0 ? this.sigmas[index] : sigmaAt(this.settings.training.sigmas, timestep)]
  }

  /** dx/dσ at level σ; sets `denoised`. */
  protected slopeAt(prediction: Tensor, latents: Tensor, sigma: number): Term[] {
    this.denoise(prediction, latents, sigma)
    return slope(this.settings.predictionType, prediction, latents, sigma)
  }

  /** x̂_0 from the UNet's prediction at level σ; also what `denoised` shows. */
  protected denoise(prediction: Tensor, latents: Tensor, sigma: number): Tensor {
    this.denoised = toDenoised(this.settings, prediction, latents, sigma)
    return this.denoised
  }
}

/** dx/dσ = (x − x̂_0) / σ, written in what the UNet said: x̂_0 itself would cost digits where σ is large. */
function slope(type: PredictionType, prediction: Tensor, latents: Tensor, sigma: number): Term[] {
  switch (type) {
    case 'epsilon':
      return [[1, prediction]]
    case 'v_prediction':
      return [
        [sigma / (sigma ** 2 + 1), latents],
        [1 / Math.sqrt(sigma ** 2 + 1), prediction],
      ]
    case 'sample':
      return [
        [1 / sigma, latents],
        [-1 / sigma, prediction],
      ]
  }
}

/** The terms of a sum, all multiplied by one factor. */
export function times(factor: number, terms: readonly Term[]): Term[] {
  return terms.map(([coefficient, tensor]) => [factor * coefficient, tensor])
}

function toDenoised(settings: SchedulerSettings, prediction: Tensor, latents: Tensor, sigma: number): Tensor {
  switch (settings.predictionType) {
    case 'epsilon':
      return combine([1, latents], [-sigma, prediction])
    case 'v_prediction':
      return combine([1 / (sigma ** 2 + 1), latents], [-sigma / Math.sqrt(sigma ** 2 + 1), prediction])
    case 'sample':
      return copy(prediction)
  }
}

/** Along the line through x at level σ and x̂_0 at level 0, the point at level `to`: an Euler step of the ODE. */
export function towards(latents: Tensor, denoised: Tensor, sigma: number, to: number): Tensor {
  return combine([to / sigma, latents], [1 - to / sigma, denoised])
}

/**
 * Splits a step down to level `to` into a deterministic part to `down` and fresh noise of deviation `up`, so that the
 * sum has level `to`; η = 0 adds none, η = 1 all that the reverse SDE's ancestral sampling has.
 */
export function ancestral(from: number, to: number, eta: number): { down: number; up: number } {
  const variance = (to ** 2 * (from ** 2 - to ** 2)) / from ** 2
  const up = Math.min(to, eta * Math.sqrt(Math.max(variance, 0)))
  return { down: Math.sqrt(to ** 2 - up ** 2), up }
}

/** Alternates a schedule's own nodes with intermediate ones: first[0], second[0], first[1], … */
export function interleave(first: ArrayLike<number>, second: ArrayLike<number>): number[] {
  return Array.from({ length: first.length + second.length }, (_, i) => (i % 2 ? second : first)[i >> 1])
}
