import type { Tensor } from '../types.js'
import type { SchedulerSettings } from './settings.js'
import { roundHalfEven, timestepAt } from './sigmas.js'
import { SigmaScheduler, ancestral, interleave, sigmaNodes, times } from './sigma-space.js'
import { combine, copy } from './tensors.js'

/**
 * DPM-Solver-2 in the form of k-diffusion's `sample_dpm_2` (Lu et al., "DPM-Solver", 2022; Karras et al. 2022): an
 * Euler step to the geometric mean of the two levels, then the whole step with the slope there. With ancestral noise
 * (`sample_dpm_2_ancestral`, "DPM2 a") the step goes to a lower level, and new noise raises it again.
 */
export class Dpm2Scheduler extends SigmaScheduler {
  override readonly order = 2
  private start: Tensor | undefined

  constructor(
    settings: SchedulerSettings,
    private readonly isAncestral = false,
  ) {
    const { levels, timesteps: listed } = sigmaNodes(settings)
    // diffusers rounds the timesteps of this method with Karras levels only.
    const timesteps = settings.sigmas === 'karras' ? listed.map(roundHalfEven) : listed
    const nodes = [...levels].slice(0, -1)
    const eta = isAncestral ? settings.eta : 0
    const middles = nodes
      .slice(0, -1)
      .map((sigma, i) => Math.sqrt(sigma * ancestral(sigma, nodes[i + 1], eta).down))
    super(settings, levels, {
      timesteps: interleave(
        timesteps,
        middles.map((sigma) => timestepAt(settings.training, sigma)),
      ),
      sigmas: interleave(nodes, middles),
    })
  }

  protected override advance(prediction: Tensor, latents: Tensor): Tensor {
    const [sigma, next] = this.levels.subarray(this.index >> 1)
    const here = this.sigmas[this.index]
    const slope = this.slopeAt(prediction, latents, here)
    if (this.last) return combine([1, latents], ...times(next - sigma, slope))
    if (this.index % 2 === 0 || !this.start) {
      this.start = copy(latents)
      return combine([1, latents], ...times(this.sigmas[this.index + 1] - sigma, slope))
    }
    const { down, up } = ancestral(sigma, next, this.isAncestral ? this.settings.eta : 0)
    const terms = [[1, this.start] as const, ...times(down - sigma, slope)]
    return this.isAncestral ? combine(...terms, [up, this.noise(latents.shape)]) : combine(...terms)
  }

  protected override forget(): void {
    this.start = undefined
  }
}
