import type { Tensor } from '../types.js'
import { AlphaScheduler, fromAlpha } from './alpha-space.js'
import { consistencyTimesteps } from './consistency-timesteps.js'
import type { SchedulerSettings } from './settings.js'
import { combine } from './tensors.js'

/**
 * Strategic stochastic sampling (Zheng et al., "Trajectory consistency distillation", 2024, algorithm 4): each step goes
 * along the trajectory to the timestep (1 − η)·t', and new noise raises the latents again to the level of the next
 * timestep t'. The paper calls η γ. η = 0 adds no noise; η = 1 is multistep consistency sampling.
 */
export class TcdScheduler extends AlphaScheduler {
  constructor(settings: SchedulerSettings) {
    super(settings, consistencyTimesteps(settings))
  }

  protected override advance(prediction: Tensor, latents: Tensor): Tensor {
    const { predictionType, eta } = this.settings
    const next = this.last ? 0 : this.timesteps[this.index + 1]
    const alpha = this.alpha(this.timestep)
    const before = this.alpha(next)
    // In float32, as in diffusers: where (1 − η)·t' is a whole number, its rounding decides.
    const between = this.alpha(Math.floor(Math.fround(Math.fround(1 - eta) * next)))
    this.denoised = fromAlpha.denoised(predictionType, prediction, latents, alpha)
    const epsilon = fromAlpha.epsilon(predictionType, prediction, latents, alpha)
    const moved = combine([Math.sqrt(between), this.denoised], [Math.sqrt(1 - between), epsilon])
    if (eta === 0 || this.last) return moved
    const ratio = before / between
    return combine([Math.sqrt(ratio), moved], [Math.sqrt(Math.max(1 - ratio, 0)), this.noise(latents.shape)])
  }
}
