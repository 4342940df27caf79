import type { Tensor } from '../types.js'
import { SchedulerBase } from './base.js'
import type { SchedulerSettings } from './settings.js'
import { roundHalfEven, shapedSigmas, sigmaAt, spacedIntervals, timestepAt } from './sigmas.js'
import { combine, copy } from './tensors.js'

/**
 * Methods in λ = log(α/σ), half the log signal-to-noise ratio, on latents x = α·x_0 + σ·ε with α² + σ² = 1 (Lu et al.,
 * "DPM-Solver", 2022, section 3). The UNet's input is not scaled.
 *
 * `levels` are σ/α, which diffusers calls sigmas, so λ = −log(level).
 */
export abstract class LambdaScheduler extends SchedulerBase {
  readonly timesteps: Float64Array
  readonly sigmas: Float64Array
  readonly initNoiseSigma = 1
  protected readonly levels: Float32Array

  constructor(
    protected readonly settings: SchedulerSettings,
    /**
     * Where the methods differ: whether Karras timesteps are rounded or truncated, and which sigma_min is the last
     * level.
     */
    rules: { roundKarras: boolean; finalOfTraining: boolean },
  ) {
    super()
    const { training, steps } = settings
    const range = training.sigmas
    let timesteps = spacedIntervals({ ...settings, trainTimesteps: training.timesteps })
    let levels = timesteps.map((t) => sigmaAt(range, t))
    if (settings.sigmas) {
      levels = shapedSigmas(settings.sigmas, steps, range[0], range[range.length - 1])
      const listed = levels.map((sigma) => timestepAt(training, sigma))
      timesteps =
        settings.sigmas === 'karras' && rules.roundKarras ? listed.map(roundHalfEven) : listed.map(Math.trunc)
    }
    let final = 0
    if (settings.finalSigmasType === 'sigma_min') {
      final = settings.sigmas && !rules.finalOfTraining ? levels[steps - 1] : range[0]
    }
    this.levels = Float32Array.of(...levels, final)
    this.timesteps = Float64Array.from(timesteps)
    this.sigmas = Float64Array.from(this.levels.subarray(0, -1))
  }

  protected override noising(timestep: number): [signal: number, sigma: number] {
    const index = this.find(timestep)
    return split(index >= 0 ? this.levels[index] : sigmaAt(this.settings.training.sigmas, timestep))
  }

  /** x̂_0 from the UNet's prediction at the current level. Sets `denoised`. */
  protected denoise(prediction: Tensor, latents: Tensor): Tensor {
    const [alpha, sigma] = split(this.levels[this.index])
    switch (this.settings.predictionType) {
      case 'epsilon':
        this.denoised = combine([1 / alpha, latents], [-sigma / alpha, prediction])
        break
      case 'v_prediction':
        this.denoised = combine([alpha, latents], [-sigma, prediction])
        break
      case 'sample':
        this.denoised = copy(prediction)
    }
    return this.denoised
  }
}

/** α and σ of a level σ/α. */
export function split(level: number): [alpha: number, sigma: number] {
  const alpha = 1 / Math.sqrt(level ** 2 + 1)
  return [alpha, level * alpha]
}

/** λ of a level; +∞ for clean latents. */
export function lambdaOf(level: number): number {
  return -Math.log(level)
}
