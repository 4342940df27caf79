import type { Tensor } from '../types.js'
import type { SchedulerSettings } from './settings.js'
import { SigmaScheduler, sigmaNodes, times } from './sigma-space.js'
import { combine } from './tensors.js'

/** Euler's method for the probability flow ODE (Karras et al. 2022, algorithm 2 without churn and correction). */
export class EulerScheduler extends SigmaScheduler {
  constructor(settings: SchedulerSettings) {
    const { timesteps, levels } = sigmaNodes(settings)
    super(settings, levels, { timesteps: timesteps.map(Math.fround), sigmas: [...levels].slice(0, -1) })
  }

  protected override advance(prediction: Tensor, latents: Tensor): Tensor {
    const [sigma, next] = this.levels.subarray(this.index)
    return combine([1, latents], ...times(next - sigma, this.slopeAt(prediction, latents, sigma)))
  }
}
