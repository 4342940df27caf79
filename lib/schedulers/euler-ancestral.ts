import type { Tensor } from '../types.js'
import type { SchedulerSettings } from './settings.js'
import { SigmaScheduler, ancestral, sigmaNodes, times } from './sigma-space.js'
import { combine } from './tensors.js'

/** Euler steps with ancestral noise: k-diffusion's `sample_euler_ancestral`, "Euler a". */
export class EulerAncestralScheduler extends SigmaScheduler {
  constructor(settings: SchedulerSettings) {
    const { timesteps, levels } = sigmaNodes(settings)
    super(settings, levels, { timesteps: timesteps.map(Math.fround), sigmas: [...levels].slice(0, -1) })
  }

  protected override advance(prediction: Tensor, latents: Tensor): Tensor {
    const [sigma, next] = this.levels.subarray(this.index)
    const { down, up } = ancestral(sigma, next, this.settings.eta)
    const terms = [[1, latents] as const, ...times(down - sigma, this.slopeAt(prediction, latents, sigma))]
    return this.last ? combine(...terms) : combine(...terms, [up, this.noise(latents.shape)])
  }
}
