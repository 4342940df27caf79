import { isLatentUpscaler } from './latent-upscaler.js'
import type { ModelDescription } from '../model-description.js'

/**
 * Which of the text encoders' outputs a UNet was trained with. Stable Diffusion XL attends to the penultimate layer of
 * every text encoder, without the final norm, whatever file an encoder comes from. The ×2 latent upscaler attends to the
 * last layer without the final norm.
 */
export function chooseTextOutputs({
  unet,
  textEncoders,
}: Pick<ModelDescription, 'unet' | 'textEncoders'>): void {
  if (!unet?.config.added && !isLatentUpscaler(unet?.config)) return
  for (const encoder of textEncoders) {
    encoder.skip = unet?.config.added ? Math.min(1, encoder.config.layers - 1) : 0
    encoder.finalNorm = false
  }
}
