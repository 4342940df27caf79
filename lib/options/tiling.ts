import { checkInteger, checkObject } from '../check.js'

/** By default, the autoencoder works in bands only if the whole image would take more working memory than this. */
const DEFAULT_MAX_BYTES = 700e6
/** Limit for large images, in bytes per pixel: less memory would cost much time. */
const DEFAULT_MAX_BYTES_PER_PIXEL = 300
/** Limit on a GPU, as a share of its memory: bands take a third more time there for an image of 1024×1024. */
const DEFAULT_SHARE_OF_GPU = 1 / 6
/** Of a GPU's free memory that one call takes, as others may allocate at the same time. */
const MOST_OF_FREE = 0.9

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

/** Where an image is processed: its number of pixels, and the memory of the GPU, if it is one. */
export interface TilingPlace {
  pixels: number
  gpu?: { total: number; free?: number }
}

/** Maximum working memory in bytes; null: no limit. Where `free` is given, the default is no more than that. */
export function bytesAllowed(option: TilingOption | undefined, { pixels, gpu }: TilingPlace): number | null {
  if (option === false) return null
  if (option === true) return 0
  if (option) return option.bytes
  const share = DEFAULT_SHARE_OF_GPU * (gpu?.total ?? 0)
  const most = Math.max(DEFAULT_MAX_BYTES, DEFAULT_MAX_BYTES_PER_PIXEL * pixels, Math.floor(share))
  return gpu?.free === undefined ? most : Math.min(most, Math.floor(MOST_OF_FREE * gpu.free))
}
