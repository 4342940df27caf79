import { checkInteger, checkObject } from './check.js'

/** Working memory that decoding or encoding may take before it goes band by band on its own accord. */
const DEFAULT_MAX_BYTES = 700e6
/** The same for each pixel of an image so large that less would cost much time. */
const DEFAULT_MAX_BYTES_PER_PIXEL = 300

/**
 * How the autoencoder works through an image. true: in bands of rows, with as little memory as can be; false: the whole
 * image at once, whatever memory that takes; or in bands that take at most so many bytes of working memory, as far as
 * that is possible. Bands cost time and nothing else: the picture is the same up to rounding, without seams.
 */
export type TilingOption = boolean | { bytes: number }

/** Checks the option. */
export function checkTiling(value: unknown, path = 'vaeTiling'): TilingOption | undefined {
  if (value === undefined || typeof value === 'boolean') return value
  const { bytes } = checkObject(value, path, ['bytes'])
  return { bytes: checkInteger(bytes, `${path}.bytes`, 0, Number.MAX_SAFE_INTEGER) }
}

/** Bytes that the engine may take for an image of so many pixels; null: whatever it takes. */
export function bytesAllowed(option: TilingOption | undefined, pixels: number): number | null {
  if (option === false) return null
  if (option === true) return 0
  return option?.bytes ?? Math.max(DEFAULT_MAX_BYTES, DEFAULT_MAX_BYTES_PER_PIXEL * pixels)
}
