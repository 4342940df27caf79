import { received } from '../quote.js'

const LOWEST = -(2n ** 63n)
const HIGHEST = 2n ** 64n - 1n

/**
 * A seed as 64 unsigned bits. Negative seeds wrap around, as in `torch.manual_seed`.
 *
 * @throws {TypeError} not an integer
 * @throws {RangeError} outside −2⁶³…2⁶⁴−1, or a number that is not exact
 */
export function seedBits(seed: number | bigint): bigint {
  if (typeof seed !== 'bigint') {
    if (typeof seed !== 'number' || !Number.isInteger(seed)) {
      throw new TypeError(`Expected integer for seed but received ${received(seed)}`)
    }
    if (!Number.isSafeInteger(seed)) {
      throw new RangeError(`Expected an exact seed, but ${seed} is above 2^53: pass it as a bigint`)
    }
  }
  const value = BigInt(seed)
  if (value < LOWEST || value > HIGHEST) {
    throw new RangeError(`Expected integer between -2^63 and 2^64-1 for seed but received ${received(value)}`)
  }
  return BigInt.asUintN(64, value)
}
