/** Compares images by their content and not by their bits. */

const SIDE = 32
const KEPT = 8

/**
 * A hash of 64 bits: whether each of the lowest 8×8 cosine frequencies of the image's brightness is above their median
 * (Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions").
 *
 * @param grey [32, 32], 0…255
 */
export function perceptualHash(grey: ArrayLike<number>): boolean[] {
  if (grey.length !== SIDE * SIDE)
    throw new RangeError(`Expected ${SIDE * SIDE} pixels but received ${grey.length}`)
  const frequencies: number[] = []
  for (let v = 0; v < KEPT; v++) {
    for (let u = 0; u < KEPT; u++) {
      let sum = 0
      for (let y = 0; y < SIDE; y++) {
        for (let x = 0; x < SIDE; x++) {
          sum += grey[y * SIDE + x] * cosine(x, u) * cosine(y, v)
        }
      }
      frequencies.push(sum)
    }
  }
  const sorted = frequencies.slice(1).sort((a, b) => a - b) // without the mean brightness
  const median = sorted[sorted.length >> 1]
  return frequencies.map((value) => value > median)
}

const cosine = (x: number, u: number) => Math.cos(((2 * x + 1) * u * Math.PI) / (2 * SIDE))

/** Number of bits in which two hashes differ, 0…64. For unrelated images it is about 32. */
export function hashDistance(a: readonly boolean[], b: readonly boolean[]): number {
  return a.filter((bit, i) => bit !== b[i]).length
}
