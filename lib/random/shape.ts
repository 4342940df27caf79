import { expectation, isArray } from '../check.js'

/** Larger draws are refused: they would take more than 4 GiB. */
const MAX_ELEMENTS = 2 ** 30

/**
 * Number of elements of a tensor of this shape.
 *
 * @throws {TypeError} a dimension is not a non-negative integer
 * @throws {RangeError} more than 2³⁰ elements
 */
export function elementCount(shape: readonly number[]): number {
  if (!isArray(shape) || shape.length > 8)
    throw new TypeError(expectation('array of at most 8 sizes', 'shape', shape))
  if (!Array.from(shape).every((extent) => typeof extent === 'number'))
    throw new TypeError(expectation('array of numbers', 'shape', shape))
  let count = 1
  for (const extent of shape) {
    if (!Number.isSafeInteger(extent) || extent < 0) {
      throw new TypeError(`Expected shape of non-negative integers but received [${shape.join(', ')}]`)
    }
    count *= extent
  }
  if (count > MAX_ELEMENTS)
    throw new RangeError(`Expected at most ${MAX_ELEMENTS} elements but received shape [${shape.join(', ')}]`)
  return count
}
