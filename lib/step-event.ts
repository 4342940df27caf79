import type { Image } from './image/index.js'
import type { Tensor } from './types.js'

/** An event after each step of the denoising loop. */
export interface StepEvent {
  /** Number of finished steps, 1…steps. */
  readonly step: number
  /** Number of UNet calls of this run; second-order methods make two for each of `options.steps`. */
  readonly steps: number
  /** The timestep of the UNet call. */
  readonly timestep: number
  /** Noise level before the step, if the scheduler has `sigmas`. */
  readonly sigma: number | undefined
  /** The latents after the step, [n, c, h/8, w/8]. They are not a copy, so do not change them. */
  readonly latents: Tensor
  /**
   * A preview of the first image: decoded by the tiny autoencoder if one is loaded, otherwise a rough image with one
   * pixel for each latent, which is computed when it is read.
   */
  readonly preview: Image
}
