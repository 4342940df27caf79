import type { Tensor } from '../types.js'
import { LambdaScheduler, lambdaOf, split } from './lambda-space.js'
import type { SchedulerSettings } from './settings.js'
import { combine, copy, type Term } from './tensors.js'

interface Estimate {
  level: number
  denoised: Tensor
}

/**
 * UniPC (Zhao et al., "UniPC: a unified predictor-corrector framework for fast sampling of diffusion models", 2023):
 * a predictor of order p, and a corrector that repeats each step when the estimate at its end is known, without another
 * UNet call. In the data-prediction form, with B(h) = h ('bh1') or e^h − 1 ('bh2').
 */
export class UniPcScheduler extends LambdaScheduler {
  /** Estimates x̂_0 of earlier steps, newest first. */
  private history: Estimate[] = []
  /** Where the last step started, and its order. */
  private previous: { latents: Tensor; order: number } | undefined

  constructor(settings: SchedulerSettings) {
    super(settings, { roundKarras: true, finalOfTraining: false })
  }

  protected override advance(prediction: Tensor, latents: Tensor): Tensor {
    const [level, next] = this.levels.subarray(this.index)
    const denoised = this.denoise(prediction, latents)
    const here = { level, denoised }
    const corrected = this.previous
      ? this.update(this.previous.latents, level, this.history, this.previous.order, here)
      : copy(latents)
    // Between two equal levels there is no step. The correction has been made and must not be repeated.
    if (level === next) {
      this.previous = undefined
      return copy(corrected)
    }
    this.history = [here, ...this.history.filter((entry) => entry.level !== level)].slice(
      0,
      this.settings.order,
    )
    const left = this.timesteps.length - this.index
    const limit = this.settings.lowerOrderFinal || next === 0 ? left : Infinity
    const order = next === 0 ? 1 : Math.min(limit, this.history.length)
    this.previous = { latents: corrected, order }
    return this.update(corrected, next, this.history, order)
  }

  /**
   * x at level `to` from x at the level of `history[0]`, with `order` estimates. With `end`, the estimate at `to`
   * itself, this is the corrector.
   */
  private update(latents: Tensor, to: number, history: Estimate[], order: number, end?: Estimate): Tensor {
    const [now, ...older] = history
    const [alpha, sigma] = split(to)
    const [, from] = split(now.level)
    const h = lambdaOf(to) - lambdaOf(now.level)
    const growth = Math.expm1(-h)
    const scale = this.settings.solverType === 'bh1' ? -h : growth
    const ratios = older.slice(0, order - 1).map(({ level }) => (lambdaOf(level) - lambdaOf(now.level)) / h)
    const points = older.slice(0, order - 1).map(({ denoised }) => denoised)
    if (end) {
      ratios.push(1)
      points.push(end.denoised)
    }
    let own = -alpha * growth
    const terms: Term[] = []
    integrationWeights(-h, scale, ratios).forEach((rho, k) => {
      const weight = (alpha * scale * rho) / ratios[k]
      own += weight
      terms.push([-weight, points[k]])
    })
    return combine([sigma / from, latents], [own, now.denoised], ...terms)
  }

  protected override forget(): void {
    this.history = []
    this.previous = undefined
  }
}

/**
 * ρ of the paper's eq. 5 and 6: Σ_m ρ_m·r_m^(k−1) = k!·φ_{k+1}(h) / B(h) for k = 1…, with one equation for each r. A
 * single ρ is ½, the limit of the equations, which keeps the order of convergence.
 */
function integrationWeights(hh: number, scale: number, ratios: readonly number[]): number[] {
  const count = ratios.length
  if (count === 0) return []
  if (count === 1) return [0.5]
  let phi = Math.expm1(hh) / hh - 1
  let factorial = 1
  const rows: number[][] = []
  for (let k = 1; k <= count; k++) {
    rows.push([...ratios.map((r) => r ** (k - 1)), (phi * factorial) / scale])
    factorial *= k + 1
    phi = phi / hh - 1 / factorial
  }
  return solve(rows)
}

/** Solves a small linear system given as rows [coefficients…, right side], by elimination with row exchange. */
function solve(rows: number[][]): number[] {
  const n = rows.length
  for (let column = 0; column < n; column++) {
    const below = rows.slice(column)
    const pivot = below.reduce(
      (best, row, i) => (Math.abs(row[column]) > Math.abs(below[best][column]) ? i : best),
      0,
    )
    ;[rows[column], rows[column + pivot]] = [rows[column + pivot], rows[column]]
    for (let i = 0; i < n; i++) {
      if (i === column) continue
      const factor = rows[i][column] / rows[column][column]
      for (let j = column; j <= n; j++) rows[i][j] -= factor * rows[column][j]
    }
  }
  return rows.map((row, i) => row[n] / row[i])
}
