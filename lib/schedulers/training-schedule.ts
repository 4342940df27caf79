/** The forward process of the training: β_t, ᾱ_t and the noise levels that follow from them. */
import type { ScheduleDescription } from '../types.js'

/**
 * q(x_t | x_0) = N(√ᾱ_t·x_0, (1 − ᾱ_t)·I) for t = 0…T−1 (Ho et al., "Denoising diffusion probabilistic models", 2020).
 */
export interface TrainingSchedule {
  /** T */
  readonly timesteps: number
  readonly betas: Float32Array
  /** ᾱ_t = Π (1 − β_s), s ≤ t. */
  readonly alphasCumprod: Float32Array
  /** σ_t = √((1 − ᾱ_t) / ᾱ_t): the noise level of latents that are not scaled by √ᾱ_t. Infinite at zero SNR. */
  readonly sigmas: Float32Array
  /** Signal-to-noise ratio ᾱ_t / (1 − ᾱ_t). */
  snr(timestep: number): number
}

const f = Math.fround

/** Replaces ᾱ = 0 if a method needs a finite σ: the smallest positive half-precision number, as in diffusers. */
const NEARLY_ZERO = 2 ** -24

/**
 * Computes the training schedule in single precision with the same operations as diffusers. β and ᾱ are the same
 * floats; σ can differ in its last bit, because torch's vectorized square root is not correctly rounded.
 *
 * @param finite keeps σ finite if the schedule is rescaled to zero terminal SNR
 * @throws {RangeError} the betas are so large that ᾱ is zero and σ infinite
 */
export function trainingSchedule(
  schedule: ScheduleDescription,
  { finite = false }: { finite?: boolean } = {},
): TrainingSchedule {
  let betas = trainingBetas(schedule)
  if (schedule.rescaleBetasZeroSnr) betas = rescaleZeroTerminalSnr(betas)
  const alphasCumprod = cumulativeProduct(betas.map((beta) => 1 - beta))
  if (!schedule.rescaleBetasZeroSnr && !(alphasCumprod[alphasCumprod.length - 1] > 0))
    throw new RangeError(
      'Expected betas for schedule that leave some of the image at its last timestep, but they leave nothing',
    )
  if (finite && schedule.rescaleBetasZeroSnr) alphasCumprod[alphasCumprod.length - 1] = NEARLY_ZERO
  return {
    timesteps: betas.length,
    betas,
    alphasCumprod,
    sigmas: alphasCumprod.map((alpha) => f(Math.sqrt(f(f(1 - alpha) / alpha)))),
    snr: (timestep) => alphasCumprod[timestep] / (1 - alphasCumprod[timestep]),
  }
}

function trainingBetas(schedule: ScheduleDescription): Float32Array {
  const { trainTimesteps: count, betaStart, betaEnd } = schedule
  if (schedule.trainedBetas) return Float32Array.from(schedule.trainedBetas)
  switch (schedule.betaSchedule) {
    case 'linear':
      return linspace32(betaStart, betaEnd, count)
    case 'scaled_linear': // linear in √β, as in latent diffusion
      return linspace32(Math.sqrt(betaStart), Math.sqrt(betaEnd), count).map((root) => root * root)
    case 'squaredcos_cap_v2':
      return Float32Array.from({ length: count }, (_, t) =>
        Math.min(1 - cosineAlphaBar((t + 1) / count) / cosineAlphaBar(t / count), 0.999),
      )
  }
}

/** ᾱ of the cosine schedule (Nichol & Dhariwal, "Improved denoising diffusion probabilistic models", 2021, eq. 17). */
function cosineAlphaBar(t: number): number {
  return Math.cos(((t + 0.008) / 1.008) * (Math.PI / 2)) ** 2
}

/** `torch.linspace` in float32, which counts from the nearer end, so that both ends are exact. */
function linspace32(start: number, end: number, count: number): Float32Array {
  const [first, last] = [f(start), f(end)]
  if (count === 1) return Float32Array.of(first)
  const step = f(f(last - first) / (count - 1))
  return Float32Array.from({ length: count }, (_, i) =>
    i < count / 2 ? first + step * i : last - step * (count - 1 - i),
  )
}

/** `torch.cumprod`, which accumulates in double and stores float32. */
function cumulativeProduct(values: Float32Array): Float32Array {
  let product = 1
  return values.map((value) => (product *= value))
}

/**
 * Shifts √ᾱ so that the last timestep has no signal, and stretches it so that the first timestep keeps its value
 * (Lin et al., "Common diffusion noise schedules and sample steps are flawed", 2023, algorithm 1).
 */
function rescaleZeroTerminalSnr(betas: Float32Array): Float32Array {
  const roots = cumulativeProduct(betas.map((beta) => 1 - beta)).map(Math.sqrt)
  const [first, last] = [roots[0], roots[roots.length - 1]]
  const stretch = f(first / f(first - last))
  const alphasBar = roots.map((root) => f(f(root - last) * stretch) ** 2)
  return alphasBar.map((alpha, t) => 1 - (t === 0 ? alpha : f(alpha / alphasBar[t - 1])))
}
