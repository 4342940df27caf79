import { checkInteger, checkObject } from '../check.js'
import type { Tiling } from '../native.js'

/** Working memory that decoding or encoding may take before it goes tile by tile on its own accord. */
const COMFORTABLE_BYTES = 700e6
/** Latents a side that tiles have at least: smaller ones would show in the picture. */
const LEAST_TILE = 32

/** true: in tiles; false: in one piece, whatever memory that takes; or tiles of this size (in latents). */
export type TilingOption = boolean | { size: number; overlap?: number }

/** Checks the option; numbers are latents a side. */
export function checkTiling(value: unknown, path = 'vaeTiling'): TilingOption | undefined {
  if (value === undefined || typeof value === 'boolean') return value
  const { size, overlap } = checkObject(value, path, ['size', 'overlap'])
  const side = checkInteger(size, `${path}.size`, 8, 4096)
  return {
    size: side,
    overlap: checkInteger(overlap ?? Math.floor(side / 4), `${path}.overlap`, 0, Math.floor(side / 2)),
  }
}

/**
 * How to process an image of h × w latents. By default in one piece where that is comfortable, else in the largest tiles
 * that are. Neighbours share a quarter and are blended, as in diffusers' tiled_decode.
 *
 * @param bytes working memory for h × w latents
 */
export function chooseTiling(
  option: TilingOption | undefined,
  h: number,
  w: number,
  bytes: (h: number, w: number) => number,
): Tiling | null {
  if (option === false) return null
  if (typeof option === 'object')
    return { size: option.size, overlap: option.overlap ?? Math.floor(option.size / 4) }
  if (option === undefined && bytes(h, w) <= COMFORTABLE_BYTES) return null
  let size = 64
  while (size > LEAST_TILE && bytes(size, size) > COMFORTABLE_BYTES) size -= 8
  if (option === undefined) while (size < 128 && bytes(size + 8, size + 8) <= COMFORTABLE_BYTES) size += 8
  return { size, overlap: size / 4 }
}
