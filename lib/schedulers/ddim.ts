import type { Tensor } from '../types.js'
import { AlphaScheduler, discreteTimesteps, fromAlpha } from './alpha-space.js'
import type { SchedulerSettings } from './settings.js'
import { combine } from './tensors.js'

/**
 * Denoising diffusion implicit models (Song et al. 2021, eq. 12 and 16): deterministic for η = 0, with the noise of
 * DDPM for η = 1.
 */
export class DdimScheduler extends AlphaScheduler {
  constructor(settings: SchedulerSettings) {
    super(settings, discreteTimesteps(settings))
  }

  protected override advance(prediction: Tensor, latents: Tensor): Tensor {
    const { predictionType, training, steps, eta } = this.settings
    const alpha = this.alpha(this.timestep)
    // The mean distance between timesteps, also if they are not evenly spaced: diffusers' convention.
    const before = this.alpha(this.timestep - Math.floor(training.timesteps / steps))
    const denoised = this.denoise(prediction, latents, alpha)
    const epsilon = fromAlpha.epsilon(predictionType, prediction, latents, alpha)
    const variance = ((1 - before) / (1 - alpha)) * (1 - alpha / before)
    const deviation = eta * Math.sqrt(variance)
    const moved = combine(
      [Math.sqrt(before), denoised],
      [Math.sqrt(Math.max(1 - before - deviation ** 2, 0)), epsilon],
    )
    return eta > 0 ? combine([1, moved], [deviation, this.noise(latents.shape)]) : moved
  }
}
