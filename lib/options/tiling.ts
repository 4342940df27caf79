import { checkInteger, checkObject } from '../check.js'

/** By default, the autoencoder works in bands only if the whole image would take more working memory than this. */
const DEFAULT_MAX_BYTES = 700e6
/** Limit for large images, in bytes per pixel: less memory would cost much time. */
const DEFAULT_MAX_BYTES_PER_PIXEL = 300

/**
 * How the autoencoder processes an image. true: in bands of rows, with as little memory as possible. false: the whole
 * image at once. `{ bytes }`: in bands that take at most this much working memory, or as little as possible if that is
 * more. Bands cost only time: the image is the same up to rounding, without seams.
 */
export type TilingOption = boolean | { bytes: number }

/** Checks the option. */
export function checkTiling(value: unknown, path = 'vaeTiling'): TilingOption | undefined {
  if (value === undefined || typeof value === 'boolean') return value
  const { bytes } = checkObject(value, path, ['bytes'])
  return { bytes: checkInteger(bytes, `${path}.bytes`, 0, Number.MAX_SAFE_INTEGER) }
}

/** Maximum working memory in bytes for an image with this number of pixels; null: no limit. */
export function bytesAllowed(option: TilingOption | undefined, pixels: number): number | null {
  if (option === false) return null
  if (option === true) return 0
  return option?.bytes ?? Math.max(DEFAULT_MAX_BYTES, DEFAULT_MAX_BYTES_PER_PIXEL * pixels)
}
