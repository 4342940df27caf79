/** Quantiles of the beta distribution, for the "beta" noise levels. */

/** Lanczos coefficients for g = 7, n = 9 (Godfrey 2001): ln Γ to about 15 digits. */
const LANCZOS = [
  0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
  12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
]

/** ln Γ(x) for x > 0. */
function logGamma(x: number): number {
  if (x < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - logGamma(1 - x)
  const z = x - 1
  let sum = LANCZOS[0]
  for (let k = 1; k < LANCZOS.length; k++) sum += LANCZOS[k] / (z + k)
  const t = z + 7.5
  return 0.5 * Math.log(2 * Math.PI) + (z + 0.5) * Math.log(t) - t + Math.log(sum)
}

/**
 * I_x(a, b), the regularized incomplete beta function: the continued fraction DLMF 8.17.22, evaluated by Lentz's method
 * on the side of the mean where it converges fast, with I_x(a, b) = 1 − I_{1−x}(b, a).
 *
 * @param y 1 − x, which near x = 1 is more precise than if it were computed from x
 */
export function regularizedIncompleteBeta(x: number, y: number, a: number, b: number): number {
  if (x <= 0) return 0
  if (y <= 0) return 1
  const logFactor = a * Math.log(x) + b * Math.log(y) + logGamma(a + b) - logGamma(a) - logGamma(b)
  const factor = Math.exp(logFactor)
  if (x < (a + 1) / (a + b + 2)) return (factor * continuedFraction(x, a, b)) / a
  return 1 - (factor * continuedFraction(y, b, a)) / b
}

function continuedFraction(x: number, a: number, b: number): number {
  const tiny = 1e-300
  const nonzero = (value: number) => (Math.abs(value) < tiny ? tiny : value)
  let c = 1
  let d = 1 / nonzero(1 - ((a + b) * x) / (a + 1))
  let result = d
  for (let m = 1; m <= 500; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m))
    d = 1 / nonzero(1 + even * d)
    c = nonzero(1 + even / c)
    result *= d * c
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1))
    d = 1 / nonzero(1 + odd * d)
    c = nonzero(1 + odd / c)
    const factor = d * c
    result *= factor
    if (Math.abs(factor - 1) < 1e-16) break
  }
  return result
}

/** The x in 0…1 with I_x(a, b) = p: `scipy.stats.beta.ppf(p, a, b)`. */
export function betaQuantile(p: number, a: number, b: number): number {
  if (p <= 0) return 0
  if (p >= 1) return 1
  // Bracketed Newton steps in x or 1 − x, whichever is small, because doubles are denser there.
  const median = regularizedIncompleteBeta(0.5, 0.5, a, b)
  if (p > median) return 1 - lowerQuantile(1 - p, b, a)
  return lowerQuantile(p, a, b)
}

/** The quantile of p, which must be at most 1/2. */
function lowerQuantile(p: number, a: number, b: number): number {
  const logNorm = logGamma(a + b) - logGamma(a) - logGamma(b)
  let [low, high] = [0, 0.5]
  // Near zero I_x(a, b) ≈ x^a / (a·B(a, b)).
  let x = Math.min(0.5, Math.exp((Math.log(p) + Math.log(a) - logNorm) / a))
  for (let round = 0; round < 200; round++) {
    const error = regularizedIncompleteBeta(x, 1 - x, a, b) - p
    if (error === 0) return x
    if (error > 0) high = x
    else low = x
    const density = Math.exp(logNorm + (a - 1) * Math.log(x) + (b - 1) * Math.log1p(-x))
    let next = x - error / density
    if (!(next > low && next < high)) next = (low + high) / 2
    if (Math.abs(next - x) <= 1e-16 * x) return next
    x = next
  }
  return x
}
