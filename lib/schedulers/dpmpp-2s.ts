import type { Tensor } from '../types.js'
import { LambdaScheduler, lambdaOf, split } from './lambda-space.js'
import type { SchedulerSettings } from './settings.js'
import { combine, copy, type Term } from './tensors.js'

/** An estimate x̂_0 and the logarithm λ of the signal-to-noise ratio that it was made at. */
interface Estimate {
  lambda: number
  denoised: Tensor
}

/**
 * DPM-Solver++, single step, orders 1 to 3 (Lu et al., "DPM-Solver++", 2022, algorithm 1), and its version for the
 * reverse SDE. As in diffusers, every UNet call is a step of the list: calls are grouped by 1, 2, … `order` of them, each
 * group starts from the latents of its first call, and its n-th call repeats the way from there with order n.
 */
export class Dpmpp2sScheduler extends LambdaScheduler {
  private readonly orders: readonly number[]
  /** Estimates of earlier calls, newest first. */
  private history: Estimate[] = []
  /** Where the current group starts. */
  private start: { latents: Tensor; level: number } | undefined

  constructor(
    settings: SchedulerSettings,
    private readonly stochastic = false,
  ) {
    // diffusers' class has no other spacing.
    super({ ...settings, spacing: 'linspace' }, { roundKarras: true, finalOfTraining: true })
    this.orders = ordersOf(settings)
  }

  protected override advance(prediction: Tensor, latents: Tensor): Tensor {
    const [level, next] = this.levels.subarray(this.index)
    this.history.unshift({ lambda: lambdaOf(level), denoised: this.denoise(prediction, latents) })
    this.history.length = Math.min(this.history.length, this.settings.order)
    // A run that begins in the middle of a group has no earlier calls.
    const order = Math.min(this.orders[this.index], this.history.length)
    if (order === 1 || !this.start) this.start = { latents: copy(latents), level }
    const noise = this.stochastic ? this.noise(latents.shape) : undefined
    if (this.start.level === next) return copy(this.start.latents)

    const [alpha, sigma] = split(next)
    const [, from] = split(this.start.level)
    const h = lambdaOf(next) - lambdaOf(this.start.level)
    const rate = this.stochastic ? 2 * h : h
    const decay = Math.exp(-rate)
    const terms: Term[] = [
      [(sigma / from) * (this.stochastic ? Math.exp(-h) : 1), this.start.latents],
      ...this.slopes(order, h, rate, alpha, decay),
    ]
    if (noise) terms.push([sigma * Math.sqrt(-Math.expm1(-2 * h)), noise])
    return combine(...terms)
  }

  /** The weights of the group's estimates: the integral of a polynomial through them. */
  private slopes(order: number, h: number, rate: number, alpha: number, decay: number): Term[] {
    const group = distinct(this.history.slice(0, order))
    const [now] = group
    const first = group[group.length - 1]
    const w0 = alpha * -Math.expm1(-rate)
    if (group.length === 1) return [[w0, now.denoised]]
    const r0 = (now.lambda - first.lambda) / h
    const w1 = alpha * ((decay - 1) / rate + 1)
    const midpoint = this.settings.solverType === 'midpoint'
    if (group.length === 2 || midpoint) {
      const slope = (group.length === 2 && midpoint ? w0 / 2 : w1) / r0
      return [
        [w0 - slope, first.denoised],
        [slope, now.denoised],
      ]
    }
    const middle = group[1]
    const r1 = (middle.lambda - first.lambda) / h
    // With Δ₀ = (m₀−m₂)/r₀, Δ₁ = (m₁−m₂)/r₁, the slope is (r₀·Δ₁ − r₁·Δ₀)/(r₀−r₁), the curvature 2·(Δ₀ − Δ₁)/(r₀−r₁).
    // As in the multistep solver, the stochastic version has the signs of diffusers.
    const w2 = this.stochastic
      ? alpha * ((1 - decay - rate) / rate ** 2 - 0.5)
      : -alpha * ((decay - 1 + rate) / rate ** 2 - 0.5)
    const d0 = (2 * w2 - r1 * w1) / (r0 - r1) / r0
    const d1 = (r0 * w1 - 2 * w2) / (r0 - r1) / r1
    return [
      [w0 - d0 - d1, first.denoised],
      [d1, middle.denoised],
      [d0, now.denoised],
    ]
  }

  protected override forget(): void {
    this.history = []
    this.start = undefined
  }
}

/** The order of each call: 1, 2, … `order`, 1, 2, …, with lower ones at the end where they would not fit. */
function ordersOf({ steps, order, lowerOrderFinal, finalSigmasType }: SchedulerSettings): number[] {
  const orders = Array.from({ length: steps }, (_, i) => (i % order) + 1)
  const lower = lowerOrderFinal || steps % order !== 0 || finalSigmasType === 'zero'
  const last = orders.length - 1
  if (lower && (finalSigmasType === 'zero' || orders[last] === order)) orders[last] = 1
  return orders
}

/** One of those at the same level, the newest: there is no polynomial through two values at one place. */
function distinct(estimates: readonly Estimate[]): Estimate[] {
  return estimates.filter(({ lambda }, i) => i === 0 || lambda !== estimates[i - 1].lambda)
}
