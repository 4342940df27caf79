import type { Tensor } from '../types.js'
import type { SchedulerSettings } from './settings.js'
import { timestepAt } from './sigmas.js'
import { SigmaScheduler, ancestral, interleave, sigmaNodes, towards } from './sigma-space.js'
import { combine, copy } from './tensors.js'

/**
 * DPM-Solver++(2S) with ancestral noise (Lu et al., "DPM-Solver++", 2022, algorithm 1 with r = ½; k-diffusion's
 * `sample_dpmpp_2s_ancestral`): the step to the lower level uses x̂_0 from the middle of the step in log σ.
 */
export class Dpmpp2sAncestralScheduler extends SigmaScheduler {
  override readonly order = 2
  private start: Tensor | undefined

  constructor(settings: SchedulerSettings) {
    const { timesteps, levels } = sigmaNodes(settings)
    const nodes = [...levels].slice(0, -1)
    const middles = nodes
      .slice(0, -1)
      .map((sigma, i) => Math.sqrt(sigma * ancestral(sigma, nodes[i + 1], settings.eta).down))
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
    const denoised = this.denoise(prediction, latents, this.sigmas[this.index])
    if (this.last) return towards(latents, denoised, sigma, next)
    if (this.index % 2 === 0 || !this.start) {
      this.start = copy(latents)
      return towards(latents, denoised, sigma, this.sigmas[this.index + 1])
    }
    const { down, up } = ancestral(sigma, next, this.settings.eta)
    return combine([1, towards(this.start, denoised, sigma, down)], [up, this.noise(latents.shape)])
  }

  protected override forget(): void {
    this.start = undefined
  }
}
