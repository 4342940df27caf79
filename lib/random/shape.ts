/**
 * Number of elements of a tensor of this shape.
 *
 * @throws {TypeError} a dimension is not a non-negative integer
 */
export function elementCount(shape: readonly number[]): number {
  let count = 1
  for (const extent of shape) {
    if (!Number.isSafeInteger(extent) || extent < 0) {
      throw new TypeError(`Expected shape of non-negative integers but received [${shape.join(', ')}]`)
    }
    count *= extent
  }
  return count
}
