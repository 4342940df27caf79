import type { Tensor } from '../types.js'
import { AlphaScheduler } from './alpha-space.js'
import { consistencyTimesteps } from './consistency-timesteps.js'
import type { SchedulerSettings } from './settings.js'
import { combine, copy } from './tensors.js'

/** σ_data of the boundary condition, and the factor of its timesteps. */
const SIGMA_DATA = 0.5
const TIMESTEP_SCALING = 10

/**
 * Multistep consistency sampling (Luo et al., "Latent consistency models", 2023, algorithm 3): each step predicts clean
 * latents and adds noise of the level of the next timestep.
 */
export class LcmScheduler extends AlphaScheduler {
  constructor(settings: SchedulerSettings) {
    super(settings, consistencyTimesteps(settings))
  }

  protected override advance(prediction: Tensor, latents: Tensor): Tensor {
    const scaled = this.timestep * TIMESTEP_SCALING
    const skip = SIGMA_DATA ** 2 / (scaled ** 2 + SIGMA_DATA ** 2)
    const out = scaled / Math.sqrt(scaled ** 2 + SIGMA_DATA ** 2)
    const predicted = this.denoise(prediction, latents, this.alpha(this.timestep))
    const denoised = combine([out, predicted], [skip, latents])
    this.denoised = denoised
    if (this.last) return copy(denoised)
    const next = this.alpha(this.timesteps[this.index + 1])
    return combine([Math.sqrt(next), denoised], [Math.sqrt(1 - next), this.noise(latents.shape)])
  }
}
