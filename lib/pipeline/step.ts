import { latentPreview, STABLE_DIFFUSION_FACTORS, type Image } from '../image/index.js'
import type { StepEvent } from '../step-event.js'
import type { Tensor } from '../types.js'

/** Creates the event; `denoised` is the scheduler's estimate of the finished latents. */
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

/** The colours of latents are known for Stable Diffusion's autoencoder, which is recognized by its scaling factor. */
function isStableDiffusion(scalingFactor: number): boolean {
  return Math.abs(scalingFactor - 0.18215) < 1e-4
}
