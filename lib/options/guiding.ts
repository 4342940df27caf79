/** What pictures that guide a run have in common, whether by a ControlNet or by an IP-Adapter. */
import { checkNumber } from '../check.js'

/** How strongly a picture guides, and in which part of the steps. */
export interface Guiding {
  scale: number
  start: number
  end: number
}

const MAX_SCALE = 10

/** A scale of −10…10. */
export function checkScale(value: unknown, path: string): number {
  return checkNumber(value, path, -MAX_SCALE, MAX_SCALE)
}

/** @param path how messages name the options' owner */
export function checkGuiding(given: Partial<Record<keyof Guiding, unknown>>, path: string): Guiding {
  const share = (key: 'start' | 'end', fallback: number) =>
    given[key] === undefined ? fallback : checkNumber(given[key], `${path}.${key}`, 0, 1)
  const [start, end] = [share('start', 0), share('end', 1)]
  if (start >= end)
    throw new RangeError(`Expected ${path}.start below ${path}.end but received ${start} and ${end}`)
  return { scale: given.scale === undefined ? 1 : checkScale(given.scale, `${path}.scale`), start, end }
}

/** Whether UNet call `index` of `count` is in its part of the steps, as diffusers' controlnet_keep. */
export function guidesAt({ start, end }: Guiding, index: number, count: number): boolean {
  return index / count >= start && (index + 1) / count <= end
}
