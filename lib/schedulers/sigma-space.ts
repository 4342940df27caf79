import type { PredictionType, Tensor } from '../types.js'
import { SchedulerBase } from './base.js'
import type { SchedulerSettings } from './settings.js'
import { shapedSigmas, sigmaAt, spacedTimesteps, timestepAt } from './sigmas.js'
import { combine, copy, type Term } from './tensors.js'

/** The nodes of a schedule: timesteps with their noise levels, and the last level. */
export interface SigmaNodes {
  timesteps: number[]
  /** One element more than timesteps. In float32, as the methods use them. */
  levels: Float32Array
}

/**
 * Nodes at spaced timesteps. With a formula for the levels, between the highest and lowest level of these timesteps.
 */
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
 * Methods on latents x = x_0 + σ·ε, as in Karras et al. (2022): the UNet's input is x / √(σ² + 1), and
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
    // 'leading' does not start at pure noise: the remaining signal has variance 1.
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

  /** x̂_0 from the UNet's prediction at level σ. Sets `denoised`. */
  protected denoise(prediction: Tensor, latents: Tensor, sigma: number): Tensor {
    this.denoised = toDenoised(this.settings, prediction, latents, sigma)
    return this.denoised
  }
}

/** dx/dσ = (x − x̂_0) / σ, in terms of the prediction: computing it from x̂_0 would lose digits where σ is large. */
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

/** Multiplies all terms of a sum by one factor. */
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

/** The point at level `to` on the line from x at level σ to x̂_0 at level 0: an Euler step of the ODE. */
export function towards(latents: Tensor, denoised: Tensor, sigma: number, to: number): Tensor {
  return combine([to / sigma, latents], [1 - to / sigma, denoised])
}

/**
 * Splits a step to level `to` into a deterministic step to level `down` and new noise of standard deviation `up`, so
 * that the result has level `to`. η = 0 adds no noise, η = 1 the noise of ancestral sampling.
 */
export function ancestral(from: number, to: number, eta: number): { down: number; up: number } {
  const variance = (to ** 2 * (from ** 2 - to ** 2)) / from ** 2
  const up = Math.min(to, eta * Math.sqrt(Math.max(variance, 0)))
  return { down: Math.sqrt(to ** 2 - up ** 2), up }
}

/** Interleaves the nodes of a schedule with intermediate ones: first[0], second[0], first[1], … */
export function interleave(first: ArrayLike<number>, second: ArrayLike<number>): number[] {
  return Array.from({ length: first.length + second.length }, (_, i) => (i % 2 ? second : first)[i >> 1])
}
