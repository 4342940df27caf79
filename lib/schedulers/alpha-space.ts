import type { Tensor } from '../types.js'
import { SchedulerBase } from './base.js'
import type { SchedulerSettings } from './settings.js'
import { roundHalfEven, spacedTimesteps } from './sigmas.js'
import { clamp, combine, copy } from './tensors.js'

/** Integer timesteps in descending order. */
export function discreteTimesteps(settings: SchedulerSettings): number[] {
  return spacedTimesteps({ ...settings, trainTimesteps: settings.training.timesteps }).map(roundHalfEven)
}

/**
 * Methods on latents x_t = √ᾱ_t·x_0 + √(1 − ᾱ_t)·ε at integer timesteps of the training schedule, as in DDPM and DDIM.
 * The UNet's input is not scaled.
 */
export abstract class AlphaScheduler extends SchedulerBase {
  readonly timesteps: Float64Array
  readonly sigmas: Float64Array
  readonly initNoiseSigma = 1

  constructor(
    protected readonly settings: SchedulerSettings,
    timesteps: readonly number[],
  ) {
    super()
    this.timesteps = Float64Array.from(timesteps)
    this.sigmas = Float64Array.from(timesteps, (t) => settings.training.sigmas[t])
  }

  protected get timestep(): number {
    return this.timesteps[this.index]
  }

  /** ᾱ_t. Before the first training timestep it is 1, or that of timestep 0 if the schedule says so. */
  protected alpha(timestep: number): number {
    const { alphasCumprod, timesteps } = this.settings.training
    if (timestep < 0) return this.settings.setAlphaToOne ? 1 : alphasCumprod[0]
    return alphasCumprod[Math.min(timestep, timesteps - 1)]
  }

  protected override noising(timestep: number): [signal: number, sigma: number] {
    if (!Number.isInteger(timestep) || timestep < 0 || timestep >= this.settings.training.timesteps) {
      const last = this.settings.training.timesteps - 1
      throw new RangeError(`Expected integer between 0 and ${last} for timestep but received ${timestep}`)
    }
    const alpha = this.alpha(timestep)
    return [Math.sqrt(alpha), Math.sqrt(1 - alpha)]
  }

  /** x̂_0 from the UNet's prediction, clipped if the schedule says so. Sets `denoised`. */
  protected denoise(prediction: Tensor, latents: Tensor, alpha: number): Tensor {
    const denoised = fromAlpha.denoised(this.settings.predictionType, prediction, latents, alpha)
    this.denoised = this.settings.clipSample ? clamp(denoised, 1) : denoised
    return this.denoised
  }
}

/** x̂_0 and ε from a prediction for latents with signal √ᾱ and noise √(1 − ᾱ). */
export const fromAlpha = {
  denoised(
    type: SchedulerSettings['predictionType'],
    prediction: Tensor,
    latents: Tensor,
    alpha: number,
  ): Tensor {
    const [signal, noise] = [Math.sqrt(alpha), Math.sqrt(1 - alpha)]
    if (type === 'sample') return copy(prediction)
    if (type === 'v_prediction') return combine([signal, latents], [-noise, prediction])
    return combine([1 / signal, latents], [-noise / signal, prediction])
  },

  epsilon(
    type: SchedulerSettings['predictionType'],
    prediction: Tensor,
    latents: Tensor,
    alpha: number,
  ): Tensor {
    const [signal, noise] = [Math.sqrt(alpha), Math.sqrt(1 - alpha)]
    if (type === 'epsilon') return prediction
    if (type === 'v_prediction') return combine([signal, prediction], [noise, latents])
    return combine([1 / noise, latents], [-signal / noise, prediction])
  },
}
