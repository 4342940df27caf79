import { latentPreview, STABLE_DIFFUSION_FACTORS, type Image } from '../image/index.js'
import type { Tensor } from '../types.js'

/** What is known after each step of the loop. */
export interface StepEvent {
  /** Steps done, 1…steps. */
  readonly step: number
  /** UNet calls that this run makes (methods of second order make two for each of `options.steps`). */
  readonly steps: number
  /** The timestep that was denoised. */
  readonly timestep: number
  /** Noise level before the step, where the scheduler knows it. */
  readonly sigma: number | undefined
  /** The latents after the step, [n, c, h/8, w/8]: a copy is not made, so do not change them. */
  readonly latents: Tensor
  /**
   * A picture of where the first image is going: by the tiny autoencoder where one is loaded, else a rough one with a pixel
   * for each latent, made when it is asked for.
   */
  readonly preview: Image
}

/** Makes the event; `denoised` is the scheduler's guess at the finished latents. */
export function stepEvent(
  facts: Omit<StepEvent, 'preview'>,
  denoised: Tensor,
  scalingFactor: number,
  preview?: Image,
): StepEvent {
  return {
    ...facts,
    get preview() {
      return (preview ??= latentPreview(
        denoised,
        isStableDiffusion(scalingFactor) ? STABLE_DIFFUSION_FACTORS : null,
      ))
    },
  }
}

/** The known colours of latents are those of Stable Diffusion's autoencoder, which its scaling factor tells. */
function isStableDiffusion(scalingFactor: number): boolean {
  return Math.abs(scalingFactor - 0.18215) < 1e-4
}
