import type { Tensor } from '../types.js'
import type { SchedulerSettings } from './settings.js'
import { timestepAt } from './sigmas.js'
import { SigmaScheduler, ancestral, interleave, sigmaNodes, towards } from './sigma-space.js'
import { combine, copy } from './tensors.js'

/**
 * DPM-Solver++ for the reverse SDE, single step, r = ½ (Lu et al. 2022, "DPM-Solver++"; diffusers' DPMSolverSDE,
 * k-diffusion's `sample_dpmpp_sde`). Both stages start from the same latents and follow the same Brownian path in σ:
 * the noise of the whole step is that of its first half plus independent noise.
 */
export class DpmppSdeScheduler extends SigmaScheduler {
  override readonly order = 2
  private start: { latents: Tensor; noise: Tensor } | undefined

  constructor(settings: SchedulerSettings) {
    const { timesteps, levels } = sigmaNodes(settings)
    const nodes = [...levels].slice(0, -1)
    const middles = nodes.slice(0, -1).map((sigma, i) => Math.sqrt(sigma * nodes[i + 1]))
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
    const denoised = this.denoise(prediction, latents, here)
    if (this.last) return towards(latents, denoised, sigma, next)
    const { eta } = this.settings
    const noise = this.noise(latents.shape)
    if (this.index % 2 === 0 || !this.start) {
      const { down, up } = ancestral(sigma, this.sigmas[this.index + 1], eta)
      this.start = { latents: copy(latents), noise }
      return combine([1, towards(latents, denoised, sigma, down)], [up, noise])
    }
    const { down, up } = ancestral(sigma, next, eta)
    // Increments of a Brownian motion over σ…here and here…next, scaled to a total variance of 1.
    const share = sigma > next ? Math.min((sigma - here) / (sigma - next), 1) : 1
    return combine(
      [1, towards(this.start.latents, denoised, sigma, down)],
      [up * Math.sqrt(share), this.start.noise],
      [up * Math.sqrt(1 - share), noise],
    )
  }

  protected override forget(): void {
    this.start = undefined
  }
}
