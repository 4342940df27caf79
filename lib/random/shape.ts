/** Elements of a tensor of that shape; throws TypeError unless every extent is a whole number, none negative. */
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
