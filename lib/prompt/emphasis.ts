import { TimeSlice } from '../time-slice.js'
import type { Tensor } from '../types.js'

/**
 * Applies a prompt's weights to its embedding: multiplies the vector of each token by its weight, then scales each
 * chunk so that its mean does not change (the "original" emphasis of Stable Diffusion web UIs). A chunk whose weights
 * are all 1 does not change at all.
 *
 * @param embeddings [chunks, length, width], the text encoder's output
 * @param weights [chunks, length]
 * @returns [1, chunks·length, width], the concatenated chunks: the UNet's context
 * @throws {RangeError} the shapes do not fit
 */
export async function applyWeights(
  embeddings: Tensor,
  weights: ArrayLike<number>,
  slice = new TimeSlice(),
): Promise<Tensor> {
  const [chunks, length, width] = embeddings.shape
  const size = length * width
  if (
    embeddings.shape.length !== 3 ||
    embeddings.data.length !== chunks * size ||
    weights.length !== chunks * length
  ) {
    throw new RangeError(
      `Expected embeddings [chunks, length, width] and chunks·length weights but received [${embeddings.shape.join(', ')}] ` +
        `with ${embeddings.data.length} numbers and ${weights.length} weights`,
    )
  }
  const data = new Float32Array(embeddings.data)
  for (let chunk = 0; chunk < chunks; chunk++) {
    weighChunk(data.subarray(chunk * size, (chunk + 1) * size), weights, chunk * length, length, width)
    await slice.pause()
  }
  return { data, shape: [1, chunks * length, width] }
}

function weighChunk(
  data: Float32Array,
  weights: ArrayLike<number>,
  first: number,
  length: number,
  width: number,
): void {
  if (Array.prototype.slice.call(weights, first, first + length).every((weight) => weight === 1)) return
  const before = mean(data)
  for (let token = 0; token < length; token++) {
    const weight = weights[first + token]
    for (let i = token * width; i < (token + 1) * width; i++) data[i] *= weight
  }
  const factor = before / mean(data)
  // A mean of zero cannot be restored by scaling. Then the vectors are not scaled.
  if (Number.isFinite(factor)) for (let i = 0; i < data.length; i++) data[i] *= factor
}

function mean(data: Float32Array): number {
  let sum = 0
  for (const value of data) sum += value
  return sum / data.length
}
