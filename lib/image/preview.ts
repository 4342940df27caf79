import type { Tensor } from '../types.js'
import { Image } from './image.js'

/** Weights of each latent channel in red, green and blue. */
export type LatentFactors = readonly (readonly [red: number, green: number, blue: number])[]

/**
 * A linear fit from the scaled latents of Stable Diffusion 1 and 2 to colours in −1…1, well known among users of the
 * model (discuss.huggingface.co, "Decoding latents to RGB without upscaling").
 */
export const STABLE_DIFFUSION_FACTORS: LatentFactors = [
  [0.298, 0.207, 0.208],
  [0.187, 0.286, 0.173],
  [-0.158, 0.189, 0.264],
  [-0.184, -0.271, -0.473],
]

/**
 * A rough image of latents, one pixel for each, without running the autoencoder.
 *
 * @param latents [n, channels, height, width], scaled as in diffusion
 * @param factors default: Stable Diffusion's, for four channels. With null, or by default with another number of
 *   channels, the first three channels are red, green and blue, each stretched over its range
 * @param index which of the n images
 * @throws {RangeError} the shapes do not fit
 */
export function latentPreview(latents: Tensor, factors?: LatentFactors | null, index = 0): Image {
  const [n, channels, height, width] = latents.shape
  const plane = height * width
  if (
    latents.shape.length !== 4 ||
    latents.data.length !== n * channels * plane ||
    !(index >= 0 && index < n)
  ) {
    throw new RangeError(
      `Expected latents ${index} of [n, channels, height, width] but received [${latents.shape.join(', ')}]`,
    )
  }
  if (factors && factors.length !== channels) {
    throw new RangeError(`Expected factors of ${channels} latent channels but received ${factors.length}`)
  }
  const own = latents.data.subarray(index * channels * plane, (index + 1) * channels * plane)
  const linear = factors ?? (factors === undefined && channels === 4 ? STABLE_DIFFUSION_FACTORS : null)
  const rgb = linear ? project(own, linear, plane) : stretch(own, channels, plane)
  return Image.fromTensor({ data: rgb, shape: [1, 3, height, width] })
}

function project(latents: Float32Array, factors: LatentFactors, plane: number): Float32Array {
  const rgb = new Float32Array(3 * plane)
  factors.forEach((factor, channel) => {
    for (let colour = 0; colour < 3; colour++) {
      for (let i = 0; i < plane; i++) rgb[colour * plane + i] += factor[colour] * latents[channel * plane + i]
    }
  })
  return rgb
}

function stretch(latents: Float32Array, channels: number, plane: number): Float32Array {
  const rgb = new Float32Array(3 * plane)
  for (let colour = 0; colour < 3; colour++) {
    const channel = Math.min(colour, channels - 1)
    const values = latents.subarray(channel * plane, (channel + 1) * plane)
    let [low, high] = [Infinity, -Infinity]
    for (const value of values) {
      low = Math.min(low, value)
      high = Math.max(high, value)
    }
    for (let i = 0; i < plane; i++)
      rgb[colour * plane + i] = high > low ? ((values[i] - low) / (high - low)) * 2 - 1 : 0
  }
  return rgb
}
