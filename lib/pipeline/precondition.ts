/**
 * The ×2 latent upscaler's UNet is given noise levels instead of timesteps, and its input and output are scaled as in Karras
 * et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models", table 1, with a data deviation of 1.
 */
import { trainingSchedule } from '../schedulers/training-schedule.js'
import type { ScheduleDescription, Scheduler, Tensor } from '../types.js'
import { zeros } from './tensors.js'

/** What makes a prediction of denoised latents from the UNet's output. */
export interface Preconditioning {
  /** The number that stands for the noise level of UNet call `index`: log(σ) / 4. */
  timestep(index: number): number
  /**
   * c_skip · latents + c_out · output. Latents as scheduler.scaleModelInput() gives them are c_in · latents already, or those
   * of a variance-preserving process, which is the same. Channels of the output beyond those of the latents estimate its
   * variance, and are not used.
   */
  denoised(scaled: Tensor, output: Tensor, index: number): Tensor
}

export function preconditioning(
  schedule: ScheduleDescription,
  { timesteps, sigmas }: Pick<Scheduler, 'timesteps' | 'sigmas'>,
): Preconditioning {
  const training = sigmas ? undefined : trainingSchedule(schedule, { finite: true }).sigmas
  const sigmaAt = (index: number) =>
    Math.fround(sigmas ? sigmas[index] : levelAt(training!, timesteps[index]))
  return {
    timestep: (index) => Math.fround(Math.log(sigmaAt(index))) * 0.25,
    denoised(scaled, output, index) {
      const sigma = sigmaAt(index)
      const input = 1 / Math.sqrt(sigma ** 2 + 1)
      const result = zeros(scaled.shape)
      const [n, c] = scaled.shape
      const size = result.data.length / n
      const row = (size / c) * output.shape[1]
      for (let i = 0; i < result.data.length; i++) {
        const at = Math.floor(i / size) * row + (i % size)
        result.data[i] = input * scaled.data[i] + sigma * input * output.data[at]
      }
      return result
    },
  }
}

/** The noise level at a timestep, between two of the training's geometrically. */
function levelAt(sigmas: Float32Array, timestep: number): number {
  const last = sigmas.length - 1
  const t = Math.min(Math.max(timestep, 0), last)
  const [low, high] = [Math.floor(t), Math.min(Math.floor(t) + 1, last)]
  return Math.exp(Math.log(sigmas[low]) + (t - low) * (Math.log(sigmas[high]) - Math.log(sigmas[low])))
}

/** The condition that is embedded with the timestep: a noise level of 0 as cosines and sines, then the pooled text. */
export function timeCondition(pooled: Tensor, width: number): Tensor {
  const [n, textWidth] = pooled.shape
  const out = zeros([n, width])
  const cosines = (width - textWidth) / 2
  for (let i = 0; i < n; i++) {
    out.data.fill(1, i * width, i * width + cosines)
    out.data.set(pooled.data.subarray(i * textWidth, (i + 1) * textWidth), i * width + 2 * cosines)
  }
  return out
}

/** Every pixel four times. [n, c, h, w] → [n, c, 2h, 2w] */
export function doubled({ data, shape }: Tensor): Tensor {
  const [n, c, h, w] = shape
  const out = zeros([n, c, 2 * h, 2 * w])
  for (let i = 0; i < out.data.length; i++) {
    const [x, y] = [i % (2 * w), Math.floor(i / (2 * w)) % (2 * h)]
    out.data[i] = data[(Math.floor(i / (4 * h * w)) * h + (y >> 1)) * w + (x >> 1)]
  }
  return out
}
