import type { Tensor } from '../types.js'
import type { SchedulerSettings } from './settings.js'
import { SigmaScheduler, ancestral, sigmaNodes, towards } from './sigma-space.js'
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
    const moved = towards(latents, this.denoise(prediction, latents, sigma), sigma, down)
    if (this.last) return moved
    return combine([1, moved], [up, this.noise(latents.shape)])
  }
}
