import { received } from '../quote.js'

const LOWEST = -(2n ** 63n)
const HIGHEST = 2n ** 64n - 1n

/**
 * A seed as 64 unsigned bits. Negative seeds count down from 2⁶⁴, as in `torch.manual_seed`.
 *
 * @throws TypeError for anything but an integer; RangeError outside −2⁶³…2⁶⁴−1, or for a number that is not exact
 */
export function seedBits(seed: number | bigint): bigint {
  if (typeof seed !== 'bigint') {
    if (typeof seed !== 'number' || !Number.isInteger(seed)) {
      throw new TypeError(`Expected integer for seed but received ${received(seed)}`)
    }
    if (!Number.isSafeInteger(seed)) {
      throw new RangeError(`Expected seed to be exact, but ${seed} is beyond 2^53: pass it as a bigint`)
    }
  }
  const value = BigInt(seed)
  if (value < LOWEST || value > HIGHEST) {
    throw new RangeError(`Expected integer between -2^63 and 2^64-1 for seed but received ${received(value)}`)
  }
  return BigInt.asUintN(64, value)
}
