import type { Tensor } from '../types.js'
import { LambdaScheduler, split } from './lambda-space.js'
import type { SchedulerSettings } from './settings.js'
import { combine, copy, type Term } from './tensors.js'

/** Runs of fewer steps end with lower orders. */
const FEW_STEPS = 15

/**
 * Diffusion exponential integrator sampler (Zhang & Chen, "Fast sampling of diffusion models with exponential
 * integrator", 2023), multistep, in log ρ with ρ = σ/α: dx/dρ of x/α is the predicted noise, and the polynomial in log ρ
 * through up to three predictions is integrated exactly. The last level is always that of the lowest timestep.
 */
export class DeisScheduler extends LambdaScheduler {
  /** Noise predictions, newest first, with the logarithms of their levels. */
  private history: { log: number; epsilon: Tensor }[] = []

  constructor(settings: SchedulerSettings) {
    super({ ...settings, finalSigmasType: 'sigma_min' }, { roundKarras: true, finalOfTraining: false })
  }

  protected override advance(prediction: Tensor, latents: Tensor): Tensor {
    const [level, next] = this.levels.subarray(this.index)
    const denoised = this.denoise(prediction, latents)
    // Two equal levels have no step between them, and no polynomial goes through both.
    if (level === next) return copy(latents)
    const [alpha, sigma] = split(level)
    const epsilon =
      this.settings.predictionType === 'epsilon'
        ? copy(prediction)
        : combine([1 / sigma, latents], [-alpha / sigma, denoised])
    const order = this.orderHere()
    this.history.unshift({ log: Math.log(level), epsilon })
    this.history.length = Math.min(this.history.length, this.settings.order)

    const [to] = split(next)
    const used = this.history.slice(0, order)
    const logs = used.map(({ log }) => log)
    const terms = used.map(({ epsilon }, k): Term => {
      const weight = integralOfLagrange(logs, k, next) - integralOfLagrange(logs, k, level)
      return [to * weight, epsilon]
    })
    return combine([to / alpha, latents], ...terms)
  }

  private orderHere(): number {
    const { order, lowerOrderFinal } = this.settings
    const left = this.timesteps.length - this.index
    const limit = lowerOrderFinal && this.timesteps.length < FEW_STEPS ? left : Infinity
    return Math.min(order, limit, this.history.length + 1)
  }

  protected override forget(): void {
    this.history = []
  }
}

/**
 * ∫ dρ, up to ρ, of the polynomial in log ρ that is 1 at logs[k] and 0 at the (at most two) others, with
 * ∫ log ρ dρ = ρ·(log ρ − 1) and ∫ log² ρ dρ = ρ·(log² ρ − 2·log ρ + 2).
 */
function integralOfLagrange(logs: readonly number[], k: number, rho: number): number {
  const log = Math.log(rho)
  const [a, b] = logs.filter((_, j) => j !== k)
  if (a === undefined) return rho
  if (b === undefined) return (rho * (log - 1 - a)) / (logs[k] - a)
  const value = log ** 2 - 2 * log + 2 - (a + b) * (log - 1) + a * b
  return (rho * value) / ((logs[k] - a) * (logs[k] - b))
}
