import type { Tensor } from '../types.js'
import { AlphaScheduler, discreteTimesteps } from './alpha-space.js'
import type { SchedulerSettings } from './settings.js'
import { combine } from './tensors.js'

/**
 * Ancestral sampling of the reverse chain (Ho et al., "Denoising diffusion probabilistic models", 2020, eq. 6 and 7).
 */
export class DdpmScheduler extends AlphaScheduler {
  constructor(settings: SchedulerSettings) {
    super(settings, discreteTimesteps(settings))
  }

  protected override advance(prediction: Tensor, latents: Tensor): Tensor {
    const alpha = this.alpha(this.timestep)
    // The chain ends at clean latents, even if the schedule's first timestep still has noise.
    const before = this.last ? 1 : this.alpha(this.timesteps[this.index + 1])
    const ratio = alpha / before
    const beta = 1 - ratio
    const denoised = this.denoise(prediction, latents, alpha)
    const mean = combine(
      [(Math.sqrt(before) * beta) / (1 - alpha), denoised],
      [(Math.sqrt(ratio) * (1 - before)) / (1 - alpha), latents],
    )
    if (this.timestep === 0) return mean
    const small = Math.max(((1 - before) / (1 - alpha)) * beta, 1e-20)
    const variance = this.settings.varianceType === 'fixed_large' ? beta : small
    return combine([1, mean], [Math.sqrt(variance), this.noise(latents.shape)])
  }
}
