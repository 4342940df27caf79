import type { Image } from './image/index.js'
import type { Tensor } from './types.js'

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
