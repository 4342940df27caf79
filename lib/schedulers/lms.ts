import type { Tensor } from '../types.js'
import type { SchedulerSettings } from './settings.js'
import { SigmaScheduler, sigmaNodes } from './sigma-space.js'
import { type Term, combine } from './tensors.js'

/** Nodes and weights of Gauss–Legendre quadrature on −1…1, exact for polynomials up to degree 3. */
const GAUSS = [-1 / Math.sqrt(3), 1 / Math.sqrt(3)]

/**
 * Linear multistep method (Adams–Bashforth on uneven levels): integrates the polynomial through up to four past slopes
 * exactly over the step. k-diffusion's `sample_lms`.
 */
export class LmsScheduler extends SigmaScheduler {
  /** Newest first. */
  private history: { sigma: number; slope: Tensor }[] = []

  constructor(settings: SchedulerSettings) {
    const { timesteps, levels } = sigmaNodes(settings)
    super(settings, levels, { timesteps: timesteps.map(Math.fround), sigmas: [...levels].slice(0, -1) })
  }

  protected override advance(prediction: Tensor, latents: Tensor): Tensor {
    const [sigma, next] = this.levels.subarray(this.index)
    const slope = combine(...this.slopeAt(prediction, latents, sigma))
    // There is no polynomial through two equal levels, which 'beta' gives with many steps.
    if (next === sigma) return combine([1, latents])
    this.history.unshift({ sigma, slope })
    this.history.length = Math.min(this.history.length, this.settings.order)
    const nodes = this.history.map((entry) => entry.sigma)
    const slopes = this.history.map(({ slope }, k): Term => [
      integralOfLagrange(nodes, k, sigma, next),
      slope,
    ])
    return combine([1, latents], ...slopes)
  }

  protected override forget(): void {
    this.history = []
  }
}

/** ∫ from a to b of the polynomial that is 1 at nodes[k] and 0 at the (at most three) others. */
function integralOfLagrange(nodes: readonly number[], k: number, a: number, b: number): number {
  const basis = (x: number) =>
    nodes.reduce((product, node, j) => (j === k ? product : (product * (x - node)) / (nodes[k] - node)), 1)
  const [middle, half] = [(a + b) / 2, (b - a) / 2]
  return half * GAUSS.reduce((sum, x) => sum + basis(middle + half * x), 0)
}
