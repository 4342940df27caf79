import type { ModelDescription } from '../model-description.js'

/**
 * Which of the text encoders' outputs a UNet was trained with. Stable Diffusion XL attends to the penultimate layer of
 * every text encoder, without the final norm, whatever file an encoder comes from.
 */
export function chooseTextOutputs({
  unet,
  textEncoders,
}: Pick<ModelDescription, 'unet' | 'textEncoders'>): void {
  if (!unet?.config.added) return
  for (const encoder of textEncoders) {
    encoder.skip = Math.min(1, encoder.config.layers - 1)
    encoder.finalNorm = false
  }
}
