/**
 * log, sin and cos in single precision, bit for bit as torch computes them for `randn` on x86 CPUs.
 *
 * torch's vector path evaluates the Cephes polynomials (S. Moshier, Cephes Math Library: logf.c, sinf.c) in float32,
 * and its compiler contracts a product and a sum into one fused multiply-add. Correctly rounded functions would be more
 * accurate, but their last bits would differ. So this module evaluates the same polynomials with the same roundings.
 */
const f = Math.fround

const words = new Uint32Array(1)
const floats = new Float32Array(words.buffer)

/**
 * a·b + c for float32 arguments, rounded once to float32. The product is exact in double precision, but the sum is
 * rounded to double first. That only matters if the double lies halfway between two floats: then the rounding error of
 * the sum decides.
 */
export function fma(a: number, b: number, c: number): number {
  const product = a * b
  const sum = product + c
  const near = f(sum)
  const rest = sum - near
  if (rest === 0) return near
  const other = near + 2 * rest
  if (f(other) !== other) return near
  const added = sum - product
  const lost = product - (sum - added) + (c - added)
  if (lost === 0) return near
  return lost > 0 === other > near ? other : near
}

const LOG = [
  7.0376836292e-2, -1.151461031e-1, 1.167699874e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
  2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
].map(f)
/** ln 2 in two parts, of which the high one is short enough that its multiples are exact. */
const LN2_LOW = f(-2.1219444e-4)
const LN2_HIGH = f(0.693359375)
const SQRT_HALF = f(Math.SQRT1_2)

/** Natural logarithm of a positive normal float32. */
export function log(x: number): number {
  floats[0] = x
  let exponent = (words[0] >>> 23) - 126
  words[0] = (words[0] & 0x007fffff) | 0x3f000000
  const mantissa = floats[0] // [0.5, 1)
  let m = mantissa - 1
  if (mantissa < SQRT_HALF) {
    exponent -= 1
    m += mantissa
  }
  const square = f(m * m)
  let y = LOG[0]
  for (let k = 1; k < LOG.length; k++) y = fma(y, m, LOG[k])
  y = f(y * m)
  y = fma(y, square, f(exponent * LN2_LOW))
  y = fma(-0.5, square, y)
  return fma(exponent, LN2_HIGH, f(m + y))
}

const SIN = [-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1].map(f)
const COS = [2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2].map(f)
/** π/4 in three parts, for Cody–Waite argument reduction. */
// eslint-disable-next-line no-loss-of-precision -- as Cephes writes it; f() rounds all three to float32 anyway
const QUARTER = [0.78515625, 2.4187564849853515625e-4, 3.77489497744594108e-8].map(f)
const FOUR_OVER_PI = f(4 / Math.PI)

/** Writes [sin x, cos x] of a float32 0 ≤ x < 8192 into `out`. */
export function sincos(x: number, out: Float32Array): void {
  const octant = (Math.trunc(f(x * FOUR_OVER_PI)) + 1) & ~1
  let r = fma(-octant, QUARTER[0], x)
  r = fma(-octant, QUARTER[1], r)
  r = fma(-octant, QUARTER[2], r)
  const z = f(r * r)
  let c = fma(fma(COS[0], z, COS[1]), z, COS[2])
  c = f(fma(f(c * z), z, f(-0.5 * z)) + 1)
  const s = fma(f(fma(fma(SIN[0], z, SIN[1]), z, SIN[2]) * z), r, r)
  const swapped = (octant & 2) !== 0
  const sine = swapped ? c : s
  const cosine = swapped ? s : c
  out[0] = octant & 4 ? -sine : sine
  out[1] = (octant - 2) & 4 ? cosine : -cosine
}
