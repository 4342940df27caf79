import { latentPreview, STABLE_DIFFUSION_FACTORS, type Image } from '../image/index.js'
import type { StepEvent } from '../step-event.js'
import type { Tensor } from '../types.js'

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
