import type { Tensor } from '../types.js'
import type { SchedulerSettings } from './settings.js'
import { SigmaScheduler, interleave, sigmaNodes, times } from './sigma-space.js'
import { clamp, combine, copy } from './tensors.js'

/**
 * Heun's second-order method (Karras et al. 2022, algorithm 1 without churn): an Euler step, then the same step again
 * with the mean of the slopes at both of its ends. The last step, to level 0, is an Euler step.
 */
export class HeunScheduler extends SigmaScheduler {
  override readonly order = 2
  private start: { latents: Tensor; slope: Tensor } | undefined

  constructor(settings: SchedulerSettings) {
    const { timesteps, levels } = sigmaNodes(settings)
    const nodes = [...levels].slice(0, -1)
    const rounded = timesteps.map(Math.fround)
    super(settings, levels, {
      timesteps: interleave(rounded, rounded.slice(1)),
      sigmas: interleave(nodes, nodes.slice(1)),
    })
  }

  protected override advance(prediction: Tensor, latents: Tensor): Tensor {
    const [sigma, next] = this.levels.subarray(this.index >> 1)
    const here = this.sigmas[this.index]
    let slope = this.slopeAt(prediction, latents, here)
    if (this.settings.clipSample && this.denoised) {
      this.denoised = clamp(this.denoised, 1)
      slope = [
        [1 / here, latents],
        [-1 / here, this.denoised],
      ]
    }
    if (this.index % 2 === 0 || !this.start) {
      this.start = { latents: copy(latents), slope: combine(...slope) }
      return combine([1, latents], ...times(next - sigma, slope))
    }
    const half = (next - sigma) / 2
    return combine([1, this.start.latents], [half, this.start.slope], ...times(half, slope))
  }

  protected override forget(): void {
    this.start = undefined
  }
}
