import type { Tensor } from '../types.js'
import { LambdaScheduler, lambdaOf, split } from './lambda-space.js'
import type { SchedulerSettings } from './settings.js'
import { combine, copy } from './tensors.js'

/** Runs of fewer steps end with lower orders. */
const FEW_STEPS = 15

/**
 * DPM-Solver++, multistep, orders 1 to 3 (Lu et al., "DPM-Solver++", 2022, algorithm 2), and its version for the
 * reverse SDE ("DPM++ 2M SDE", in the paper's appendix), which adds new noise in every step.
 */
export class Dpmpp2mScheduler extends LambdaScheduler {
  /** Estimates x̂_0 of earlier steps, newest first. */
  private history: { lambda: number; denoised: Tensor }[] = []

  constructor(
    settings: SchedulerSettings,
    private readonly stochastic = false,
  ) {
    super(settings, { roundKarras: !settings.cosine, finalOfTraining: true })
  }

  protected override advance(prediction: Tensor, latents: Tensor): Tensor {
    const [level, nextLevel] = this.levels.subarray(this.index)
    const denoised = this.denoise(prediction, latents)
    // Two equal levels (more steps than timesteps, or a final sigma_min) have no step between them, and no slope.
    if (level === nextLevel) return copy(latents)
    const lambda = lambdaOf(level)
    const h = lambdaOf(nextLevel) - lambda
    const order = this.orderHere()
    this.history.unshift({ lambda, denoised })
    this.history.length = Math.min(this.history.length, this.settings.order)

    const [alpha, sigma] = split(nextLevel)
    const [, from] = split(level)
    // The ODE decays by e^−h in λ, the SDE by e^−2h. In the last step, to clean latents, h is infinite.
    const rate = this.stochastic ? 2 * h : h
    const decay = Math.exp(-rate)
    const w0 = alpha * -Math.expm1(-rate)
    const x: [number, Tensor] = [(sigma / from) * (this.stochastic ? Math.exp(-h) : 1), latents]
    const terms = [x, ...this.slopes(order, h, rate, alpha, w0, decay)]
    if (!this.stochastic) return combine(...terms)
    return combine(...terms, [sigma * Math.sqrt(-Math.expm1(-2 * h)), this.noise(latents.shape)])
  }

  /** The weights of the current and earlier x̂_0: the integral of the polynomial through them. */
  private slopes(
    order: number,
    h: number,
    rate: number,
    alpha: number,
    w0: number,
    decay: number,
  ): [number, Tensor][] {
    const [now, one, two] = this.history
    if (order === 1) return [[w0, now.denoised]]
    const r0 = (now.lambda - one.lambda) / h
    // φ-functions of the exponential integrator; the midpoint rule replaces the first by half the zeroth.
    const w1 = alpha * ((decay - 1) / rate + 1)
    if (order === 2) {
      const slope = (this.settings.solverType === 'heun' ? w1 : w0 / 2) / r0
      return [
        [w0 + slope, now.denoised],
        [-slope, one.denoised],
      ]
    }
    const r1 = (one.lambda - two.lambda) / h
    // With D₁ = Δ₀ + r₀/(r₀+r₁)·(Δ₀ − Δ₁) and D₂ = (Δ₀ − Δ₁)/(r₀+r₁), Δ₀ = (m₀−m₁)/r₀, Δ₁ = (m₁−m₂)/r₁.
    // The stochastic solver has 1 − e^−2h − 2h where the exact integral has e^−2h − 1 + 2h, as in diffusers.
    const w2 = this.stochastic
      ? alpha * ((1 - decay - rate) / rate ** 2 - 0.5)
      : -alpha * ((decay - 1 + rate) / rate ** 2 - 0.5)
    const curvature = (w1 * r0 + w2) / (r0 + r1)
    const d0 = (w1 + curvature) / r0
    const d1 = -curvature / r1
    return [
      [w0 + d0, now.denoised],
      [d1 - d0, one.denoised],
      [-d1, two.denoised],
    ]
  }

  /** The order of the current step: low at the beginning, and at the end of short runs, where high orders overshoot. */
  private orderHere(): number {
    const { order, eulerAtFinal, lowerOrderFinal, finalSigmasType } = this.settings
    const few = lowerOrderFinal && this.timesteps.length < FEW_STEPS
    if (this.last && (eulerAtFinal || few || finalSigmasType === 'zero')) return 1
    const limit = few && this.index === this.timesteps.length - 2 ? 2 : order
    return Math.min(order, limit, this.history.length + 1)
  }

  protected override forget(): void {
    this.history = []
  }
}
