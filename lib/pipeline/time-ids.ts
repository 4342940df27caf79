import type { GenerateRequest } from '../options/index.js'
import type { Tensor } from '../types.js'

/** How many numbers a UNet takes beside the pooled text: SDXL's base model six, its refiner five. */
export type TimeIdCount = 5 | 6

/**
 * The numbers that Stable Diffusion XL is conditioned on (Podell et al. 2023, "SDXL: Improving Latent Diffusion Models
 * for High-Resolution Image Synthesis", section 2.2), for `rows` images: the original size, the crop, and the target size;
 * of the refiner the score in its place.
 */
export function timeIds(
  request: Pick<
    GenerateRequest,
    | 'width'
    | 'height'
    | 'originalSize'
    | 'cropTopLeft'
    | 'targetSize'
    | 'aestheticScore'
    | 'negativeAestheticScore'
  >,
  count: TimeIdCount,
  negative: boolean,
  rows: number,
): Tensor {
  const { width, height, cropTopLeft, aestheticScore, negativeAestheticScore } = request
  const { originalSize = { width, height }, targetSize = { width, height } } = request
  const ids = [originalSize.height, originalSize.width, cropTopLeft.top, cropTopLeft.left]
  if (count === 5) ids.push(negative ? negativeAestheticScore : aestheticScore)
  else ids.push(targetSize.height, targetSize.width)
  return { data: Float32Array.from({ length: rows * count }, (_, i) => ids[i % count]), shape: [rows, count] }
}
