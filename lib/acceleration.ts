/** Options that leave out work which training did not ask to leave out: all off unless they are asked for. */
import { checkInteger, checkNumber, checkObject, expectation } from './check.js'
import type { Scheduler } from './types.js'

/** What generate() takes. */
export interface AccelerationOptions {
  /**
   * Guide only in this part of the run, `[from, to]` in shares of its steps, 0…1 (Kynkäänniemi et al. 2024): step k of n
   * (the first is 0) is guided where from ≤ k/n and (k+1)/n ≤ to; the others cost half. Image to image counts the steps
   * that it leaves out, too, so that a share always means the same noise level. Default: everywhere.
   */
  guidanceInterval?: [from: number, to: number]
  /**
   * Compute the deep layers of the UNet in every `interval`-th call only (1…1000) and use their features again in between
   * (Ma et al. 2024, DeepCache). `depth` layers of the way up, counted from the end, are computed in every call (1…all
   * but one), and as many of the way down as they look at. `true`: interval 3, depth 1. Default: off.
   */
  deepCache?: boolean | { interval?: number; depth?: number }
  /**
   * Share of the tokens, 0…0.75, that self-attention leaves out where the resolution is highest, merged into those most
   * like them (Bolya & Hoffman 2023). Faster at 512×512 and above. Default: 0.
   */
  tokenMerging?: number
}

/** The same with every question answered. */
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

/** What `deepCache: true` means. */
export const deepCacheDefaults: DeepCacheSetting = { interval: 3, depth: 1 }

/** Three of four tokens: those that no window of 2×2 needs. */
export const maxTokenMerging = 0.75

/** @param maxDepth layers of the UNet's way up but one */
export function checkAcceleration(options: Record<string, unknown>, maxDepth: number): Acceleration {
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
  if (!Array.isArray(value)) throw new TypeError(expectation('[from, to]', path, value))
  if (value.length !== 2) throw new RangeError(expectation('[from, to]', path, value))
  const [from, to] = value.map((share, i) => checkNumber(share, `${path}[${i}]`, 0, 1))
  if (from < to) return [from, to]
  throw new RangeError(`Expected from below to for ${path} but received [${from}, ${to}]`)
}

/** Undefined where it is off: an interval of 1 is. */
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

/** Whether UNet call `index` of a schedule lies in the interval. All calls of a step of higher order do, or none. */
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

/** How a picture's parameters say it. */
export function accelerationSettings(accelerated: Acceleration): Record<string, string | number> {
  const { guidanceInterval, deepCache, tokenMerging } = accelerated
  return {
    ...(guidanceInterval ? { 'CFG interval': guidanceInterval.join(' to ') } : {}),
    ...(deepCache ? { DeepCache: `interval ${deepCache.interval} depth ${deepCache.depth}` } : {}),
    ...(tokenMerging > 0 ? { 'Token merging ratio': tokenMerging } : {}),
  }
}
