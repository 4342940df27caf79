/** Options that trade fidelity for speed. All of them are off by default. */
import { checkInteger, checkNumber, checkObject, expectation, isArray } from '../check.js'
import type { Scheduler } from '../types.js'

/** The acceleration options of generate(). */
export interface AccelerationOptions {
  /**
   * Apply guidance only in this part of the run, `[from, to]` as fractions 0…1 of its steps (Kynkäänniemi et al. 2024,
   * "Applying Guidance in a Limited Interval"). Step k of n, counted from 0, is guided where from ≤ k/n and (k+1)/n ≤
   * to; a step without guidance costs half. Image to image counts the steps that it skips, so that a fraction always
   * means the same noise level. Default: all steps.
   */
  guidanceInterval?: [from: number, to: number]
  /**
   * Compute the deep layers of the UNet only in every `interval`-th call (1…1000) and reuse their features in between
   * (Ma et al. 2024, "DeepCache: Accelerating Diffusion Models for Free"). The last `depth` layers of the decoder
   * (1…unet.maxDepth) and the encoder layers that they have skip connections to are computed in every call. `true`
   * means interval 3, depth 1. Default: off.
   */
  deepCache?: boolean | { interval?: number; depth?: number }
  /**
   * Fraction of the tokens, 0…0.75, that are merged into similar ones before self-attention at the highest resolution
   * (Bolya & Hoffman 2023, "Token Merging for Fast Stable Diffusion"). It pays off at 512×512 and above. Default: 0.
   */
  tokenMerging?: number
}

/** The same options with all defaults filled in. */
export interface Acceleration {
  guidanceInterval?: [from: number, to: number]
  deepCache?: DeepCacheSetting
  tokenMerging: number
}

export interface DeepCacheSetting {
  interval: number
  depth: number
}

export const accelerationKeys = [
  'guidanceInterval',
  'deepCache',
  'tokenMerging',
] as const satisfies (keyof AccelerationOptions)[]

/** The setting that `deepCache: true` stands for. */
export const deepCacheDefaults: DeepCacheSetting = { interval: 3, depth: 1 }

/** One token of every 2×2 window is always kept. */
export const maxTokenMerging = 0.75

/**
 * @param model.maxDepth of the UNet's deep features, see Unet.maxDepth
 * @throws {TypeError} also for an option that the model cannot take
 */
export function checkAcceleration(
  options: Record<string, unknown>,
  { maxDepth, mergesTokens = true }: { maxDepth: number; mergesTokens?: boolean },
): Acceleration {
  const refused = { deepCache: maxDepth > 0, tokenMerging: mergesTokens }
  for (const [key, possible] of Object.entries(refused))
    if (!possible && options[key] !== undefined && options[key] !== false && options[key] !== 0)
      throw new TypeError(`Expected no ${key}, as this model's UNet does not support it`)
  return {
    guidanceInterval: checkGuidanceInterval(options.guidanceInterval),
    deepCache: checkDeepCache(options.deepCache, maxDepth),
    tokenMerging: checkTokenMerging(options.tokenMerging),
  }
}

export function checkTokenMerging(value: unknown): number {
  return value === undefined ? 0 : checkNumber(value, 'tokenMerging', 0, maxTokenMerging)
}

function checkGuidanceInterval(value: unknown): [number, number] | undefined {
  if (value === undefined) return undefined
  const path = 'guidanceInterval'
  if (!isArray(value)) throw new TypeError(expectation('[from, to]', path, value))
  if (value.length !== 2) throw new RangeError(expectation('[from, to]', path, value))
  const [from, to] = value.map((share, i) => checkNumber(share, `${path}[${i}]`, 0, 1))
  if (from < to) return [from, to]
  throw new RangeError(`Expected from below to for ${path} but received [${from}, ${to}]`)
}

/** Undefined if DeepCache is off. An interval of 1 also turns it off. */
function checkDeepCache(value: unknown, maxDepth: number): DeepCacheSetting | undefined {
  if (value === undefined || value === false) return undefined
  const path = 'deepCache'
  if (value !== true && typeof value !== 'object')
    throw new TypeError(expectation('boolean or { interval, depth }', path, value))
  const { interval = deepCacheDefaults.interval, depth = deepCacheDefaults.depth } =
    value === true ? {} : checkObject(value, path, ['interval', 'depth'])
  const setting = {
    interval: checkInteger(interval, `${path}.interval`, 1, 1000),
    depth: checkInteger(depth, `${path}.depth`, 1, maxDepth),
  }
  return setting.interval === 1 ? undefined : setting
}

/** Whether UNet call `index` of a schedule lies in the interval. The calls of one step are treated alike. */
export function inInterval(
  interval: [from: number, to: number] | undefined,
  index: number,
  { timesteps, order = 1 }: Pick<Scheduler, 'timesteps' | 'order'>,
): boolean {
  if (!interval) return true
  const steps = Math.ceil(timesteps.length / order)
  const step = Math.floor(index / order)
  return interval[0] <= step / steps && (step + 1) / steps <= interval[1]
}

/** The entries of an image's parameters that describe these options. */
export function accelerationSettings(accelerated: Acceleration): Record<string, string | number> {
  const { guidanceInterval, deepCache, tokenMerging } = accelerated
  return {
    ...(guidanceInterval ? { 'CFG interval': guidanceInterval.join(' to ') } : {}),
    ...(deepCache ? { DeepCache: `interval ${deepCache.interval} depth ${deepCache.depth}` } : {}),
    ...(tokenMerging > 0 ? { 'Token merging ratio': tokenMerging } : {}),
  }
}
