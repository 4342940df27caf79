/** Reads images and masks as tensors. */
import { stat } from 'node:fs/promises'
import { expectation } from '../check.js'
import { DiffusionError } from '../errors.js'
import type { Tensor } from '../types.js'
import { Image } from './image.js'

/** A path, the bytes of a file in any format that sharp reads, or an image in memory. */
export type ImageSource = string | Uint8Array | Image

/** A width and height in pixels. */
export interface ImageSize {
  width: number
  height: number
}

/**
 * An image as a tensor [1, 3, height, width] in −1…1. It is rotated as its EXIF orientation says, and transparent parts
 * become white. With `size` it is resized to cover that size and cropped to its centre.
 *
 * @throws {TypeError} `input` is something else
 * @throws {DiffusionError} IO: the image cannot be read
 */
export async function toTensor(input: ImageSource, size?: ImageSize): Promise<Tensor> {
  const { data, width, height } = await readPixels(input, size, { background: '#ffffff', grey: false })
  const plane = width * height
  const tensor = new Float32Array(plane * 3)
  for (let i = 0; i < plane; i++) {
    for (let channel = 0; channel < 3; channel++)
      tensor[channel * plane + i] = data[i * 3 + channel] / 127.5 - 1
  }
  return { data: tensor, shape: [1, 3, height, width] }
}

/** Refuses folders, devices and named pipes: reading some of them would never end. */
async function requireFile(path: string): Promise<void> {
  let what: string
  try {
    if ((await stat(path)).isFile()) return
    what = 'it is not a file'
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    what = code === 'ENOENT' || code === 'ENOTDIR' ? 'there is no such file' : message
  }
  throw new DiffusionError('IO', `Cannot read ${path}: ${what}`)
}

/** The part of an image that is repainted: 1 repaints, 0 keeps. */
export interface Mask {
  /** [1, 1, height, width] in 0…1. */
  full: Tensor
  /** [1, 1, height/factor, width/factor]: 1 where at least half of the latent's pixels are repainted. */
  latent: Tensor
}

/**
 * A mask for inpainting: white is repainted, black and transparent parts are kept.
 *
 * @param factor pixels along one side for each latent: 8 for Stable Diffusion
 * @throws {DiffusionError} IO: the mask cannot be read
 * @throws {RangeError} the size is not a multiple of `factor`
 */
export async function loadMask(input: ImageSource, size: ImageSize, factor = 8): Promise<Mask> {
  if (size.width % factor !== 0 || size.height % factor !== 0) {
    throw new RangeError(
      `Expected a mask whose sides are multiples of ${factor} but received ${size.width}×${size.height}`,
    )
  }
  const { data, width, height } = await readPixels(input, size, { background: '#000000', grey: true })
  const full = Float32Array.from(data, (value) => value / 255)
  const [w, h] = [width / factor, height / factor]
  const latent = new Float32Array(w * h)
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++)
      latent[Math.trunc(y / factor) * w + Math.trunc(x / factor)] += data[y * width + x]
  }
  const half = 127.5 * factor * factor
  return {
    full: { data: full, shape: [1, 1, height, width] },
    latent: { data: latent.map((sum) => (sum >= half ? 1 : 0)), shape: [1, 1, h, w] },
  }
}

async function readPixels(
  input: ImageSource,
  size: ImageSize | undefined,
  { background, grey }: { background: string; grey: boolean },
): Promise<{ data: Uint8Array; width: number; height: number }> {
  if (!(typeof input === 'string' || input instanceof Uint8Array || input instanceof Image)) {
    throw new TypeError(expectation('path, encoded image (Uint8Array) or Image', 'image', input))
  }
  // Copied before the first await, because the caller may change its bytes afterwards.
  const bytes =
    typeof input === 'string' ? input : new Uint8Array(input instanceof Image ? input.data : input)
  if (typeof input === 'string') await requireFile(input)
  const { default: sharp } = await import('sharp')
  try {
    const source =
      input instanceof Image
        ? sharp(bytes, { raw: { width: input.width, height: input.height, channels: 3 } })
        : sharp(bytes, { autoOrient: true })
    let image = source.flatten({ background }).toColourspace(grey ? 'b-w' : 'srgb')
    if (size) image = image.resize(size.width, size.height, { fit: 'cover' })
    const { data, info } = await image.raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true })
    return { data: channelsOf(data, info.channels, grey ? 1 : 3), width: info.width, height: info.height }
  } catch (cause) {
    const name = typeof input === 'string' ? input : 'the image'
    throw new DiffusionError('IO', `Cannot read ${name}: ${(cause as Error).message}`, { cause })
  }
}

/** The first `wanted` of `given` interleaved channels; a single channel is repeated. */
function channelsOf(data: Uint8Array, given: number, wanted: number): Uint8Array {
  if (given === wanted) return data
  const pixels = data.length / given
  const result = new Uint8Array(pixels * wanted)
  for (let i = 0; i < pixels; i++) {
    for (let c = 0; c < wanted; c++) result[i * wanted + c] = data[i * given + Math.min(c, given - 1)]
  }
  return result
}
