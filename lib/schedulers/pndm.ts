import type { Tensor } from '../types.js'
import { AlphaScheduler, discreteTimesteps, fromAlpha } from './alpha-space.js'
import type { SchedulerSettings } from './settings.js'
import { clamp, combine, copy, type Term } from './tensors.js'

/** Weights of the noise predictions, newest first: Adams–Bashforth of order 1 to 4. */
const ADAMS_BASHFORTH = [
  [1],
  [3 / 2, -1 / 2],
  [23 / 12, -16 / 12, 5 / 12],
  [55 / 24, -59 / 24, 37 / 24, -9 / 24],
]
/** Weights of the four evaluations of one classical Runge–Kutta step. */
const RUNGE_KUTTA = [1 / 6, 1 / 3, 1 / 3, 1 / 6]
/** Number of Runge–Kutta steps that fill the history of the linear multistep method. */
const WARM_UP = 3

/**
 * Pseudo numerical methods for diffusion models (Liu et al. 2022): linear multistep prediction of the noise (PLMS),
 * with the DDIM transfer of eq. 11. Stable Diffusion's own sampler skips the Runge–Kutta warm-up (`skipPrkSteps`): then
 * the first step is made twice, the second time with the mean of the slopes at both ends. A run that begins later
 * (image to image) also makes its first step twice, although the list does not repeat a timestep there. That costs it
 * one step, as in diffusers.
 */
export class PndmScheduler extends AlphaScheduler {
  /** Number of UNet calls of the Runge–Kutta warm-up, at the beginning of `timesteps`. */
  private readonly warmUpCalls: number
  /** Number of training timesteps between two steps. */
  private readonly stride: number

  /** Predictions of the model, newest first. */
  private history: Tensor[] = []
  /** Latents at the beginning of a step that takes several calls, and its weighted predictions. */
  private start: Tensor | undefined
  private stages: Term[] = []
  private calls = 0

  constructor(settings: SchedulerSettings) {
    const timesteps = discreteTimesteps(settings)
    const stride = Math.floor(settings.training.timesteps / settings.steps)
    const warmUp = settings.skipPrkSteps ? [] : warmUpTimesteps(timesteps, Math.floor(stride / 2))
    const rest = settings.skipPrkSteps ? repeatSecond(timesteps) : timesteps.slice(WARM_UP)
    const largest = settings.training.timesteps - 1
    super(
      settings,
      [...warmUp, ...rest].map((t) => Math.min(t, largest)),
    )
    this.warmUpCalls = warmUp.length
    this.stride = stride
  }

  protected override advance(prediction: Tensor, latents: Tensor): Tensor {
    this.preview(prediction, latents)
    const next =
      this.index < this.warmUpCalls
        ? this.rungeKutta(prediction, latents)
        : this.multistep(prediction, latents)
    this.calls++
    return next
  }

  private rungeKutta(prediction: Tensor, latents: Tensor): Tensor {
    const stage = this.index % 4
    if (stage === 0) {
      this.start = copy(latents)
      this.stages = []
      this.remember(prediction)
    }
    this.stages.push([RUNGE_KUTTA[stage], copy(prediction)])
    // The four stages end half a step, half a step, a whole step and a whole step below their start.
    const to = this.timestep - (stage % 2 === 0 ? Math.floor(this.stride / 2) : 0)
    const slope = stage === 3 ? combine(...this.stages) : prediction
    return this.transfer(this.start ?? latents, this.timesteps[this.index - stage], to, slope)
  }

  private multistep(prediction: Tensor, latents: Tensor): Tensor {
    const again = this.settings.skipPrkSteps && this.calls === 1
    if (again && this.start) {
      const { start } = this
      this.start = undefined
      const mean = combine([0.5, prediction], [0.5, this.history[0]])
      return this.transfer(start, this.timestep + this.stride, this.timestep, mean)
    }
    this.remember(prediction)
    if (this.calls === 0) this.start = copy(latents)
    const weights = ADAMS_BASHFORTH[this.history.length - 1]
    const slope = combine(...this.history.map((older, k): Term => [weights[k], older]))
    return this.transfer(latents, this.timestep, this.timestep - this.stride, slope)
  }

  private remember(prediction: Tensor): void {
    this.history = [copy(prediction), ...this.history.slice(0, 3)]
  }

  /** Moves latents from one timestep to another along a noise prediction (eq. 11, the deterministic DDIM step). */
  private transfer(latents: Tensor, from: number, to: number, prediction: Tensor): Tensor {
    const [a, b] = [this.alpha(from), this.alpha(to)]
    const epsilon = fromAlpha.epsilon(this.settings.predictionType, prediction, latents, a)
    const scale = a * Math.sqrt(1 - b) + Math.sqrt(a * (1 - a) * b)
    return combine([Math.sqrt(b / a), latents], [-(b - a) / scale, epsilon])
  }

  private preview(prediction: Tensor, latents: Tensor): void {
    const { predictionType, clipSample } = this.settings
    const denoised = fromAlpha.denoised(predictionType, prediction, latents, this.alpha(this.timestep))
    this.denoised = clipSample ? clamp(denoised, 1) : denoised
  }

  protected override forget(): void {
    this.history = []
    this.start = undefined
    this.stages = []
    this.calls = 0
  }

  /** No run can begin in the middle of a Runge–Kutta step. */
  protected override canBeginAt(index: number): boolean {
    return index >= this.warmUpCalls || index % 4 === 0
  }
}

/** t_0, t_1, t_1, t_2, …: the first step is repeated at the second timestep. */
function repeatSecond(timesteps: readonly number[]): number[] {
  return timesteps.length < 2 ? [...timesteps] : [timesteps[0], timesteps[1], ...timesteps.slice(1)]
}

/** Four calls for each step: at its beginning, twice in its middle, and at its end. */
function warmUpTimesteps(timesteps: readonly number[], half: number): number[] {
  if (timesteps.length <= WARM_UP) {
    throw new RangeError(
      `Expected at least ${WARM_UP + 1} steps with the Runge-Kutta warm-up (skipPrkSteps: false) but received ${timesteps.length}`,
    )
  }
  return timesteps.slice(0, WARM_UP).flatMap((t, i) => {
    const end = timesteps[i + 1]
    return [t, end + half, end + half, end]
  })
}
