import type { Tensor } from '../types.js'
import type { SchedulerSettings } from './settings.js'
import { SigmaScheduler, interleave, sigmaNodes, towards } from './sigma-space.js'
import { clamp, combine, copy } from './tensors.js'

/**
 * Heun's second-order method (Karras et al. 2022, algorithm 1 without churn): an Euler step, then the same step again
 * with the mean of the slopes at both its ends. The last step, to level 0, is Euler's alone.
 */
export class HeunScheduler extends SigmaScheduler {
  override readonly order = 2
  private start: { latents: Tensor; denoised: Tensor } | undefined

  constructor(settings: SchedulerSettings) {
    const { timesteps, levels } = sigmaNodes(settings)
    const nodes = [...levels].slice(0, -1)
    const times = timesteps.map(Math.fround)
    super(settings, levels, {
      timesteps: interleave(times, times.slice(1)),
      sigmas: interleave(nodes, nodes.slice(1)),
    })
  }

  protected override advance(prediction: Tensor, latents: Tensor): Tensor {
    const [sigma, next] = this.levels.subarray(this.index >> 1)
    const denoised = this.denoise(prediction, latents, this.sigmas[this.index])
    if (this.settings.clipSample) clamp(denoised, 1)
    if (this.index % 2 === 0 || !this.start) {
      this.start = { latents: copy(latents), denoised }
      return towards(latents, denoised, sigma, next)
    }
    const { start } = this
    const half = (next - sigma) / 2
    return combine(
      [1 + half / sigma, start.latents],
      [-half / sigma, start.denoised],
      [half / next, latents],
      [-half / next, denoised],
    )
  }

  protected override forget(): void {
    this.start = undefined
  }
}
