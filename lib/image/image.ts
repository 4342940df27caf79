import { extname } from 'node:path'
import type { Sharp } from 'sharp'
import { throwIfAborted } from '../abort.js'
import type { Tensor } from '../types.js'
import { withUserComment } from './exif.js'
import { formatParameters, type ImageMetadata } from './parameters.js'
import { withPngText } from './png.js'
import { writeWholeFile } from './write-file.js'

export type ImageFormat = 'png' | 'jpeg' | 'webp'

const EXTENSIONS: Record<string, ImageFormat> = {
  '.png': 'png',
  '.jpg': 'jpeg',
  '.jpeg': 'jpeg',
  '.webp': 'webp',
}

export interface EncodeOptions {
  /** jpeg and webp: 1…100. Default 95. */
  quality?: number
  /** webp: every pixel exactly as it is. */
  lossless?: boolean
  /** png: 0 (fast) … 9 (small). Default 6. */
  compressionLevel?: number
  /** Write how the picture was made into the file, where `image.metadata` says it. Default true. */
  metadata?: boolean
}

export interface FileOptions extends EncodeOptions {
  /** Instead of what the file's extension says. */
  format?: ImageFormat
  /** Ends the writing; nothing is left behind. */
  signal?: AbortSignal
}

/**
 * A picture in memory: 8-bit RGB, row after row.
 *
 * ```ts
 * await result.images[0].toFile('out.png')
 * ```
 */
export class Image {
  readonly width: number
  readonly height: number
  /** [height, width, 3] */
  readonly data: Uint8Array
  /** How it was made; goes into the files as web UIs write it. */
  metadata?: ImageMetadata

  /** @throws {RangeError} `data` has not height·width·3 bytes */
  constructor(width: number, height: number, data: Uint8Array, metadata?: ImageMetadata) {
    if (!(width >= 1) || !(height >= 1) || data.length !== width * height * 3) {
      throw new RangeError(`Expected ${width}×${height}×3 bytes of RGB but received ${data.length}`)
    }
    this.width = width
    this.height = height
    this.data = data
    this.metadata = metadata
  }

  /**
   * Picture `index` of a tensor [n, 3, height, width] (or [3, height, width]) of −1…1; values beyond are clipped. One
   * channel instead of three is grey.
   *
   * @throws {RangeError} for another shape
   */
  static fromTensor(tensor: Tensor, index = 0): Image {
    const [n, channels, height, width] = tensor.shape.length === 3 ? [1, ...tensor.shape] : tensor.shape
    const fits = tensor.shape.length >= 3 && tensor.shape.length <= 4 && (channels === 3 || channels === 1)
    if (!fits || tensor.data.length !== n * channels * height * width || !(index >= 0 && index < n)) {
      throw new RangeError(
        `Expected picture ${index} of a tensor [n, 3, height, width] but received [${tensor.shape.join(', ')}]`,
      )
    }
    const plane = height * width
    // Assigning to clamped bytes rounds half to even and turns NaN into 0, as NumPy does for diffusers.
    const data = new Uint8ClampedArray(plane * 3)
    for (let channel = 0; channel < 3; channel++) {
      const start = (index * channels + (channels === 3 ? channel : 0)) * plane
      for (let i = 0; i < plane; i++) data[i * 3 + channel] = (tensor.data[start + i] / 2 + 0.5) * 255
    }
    return new Image(width, height, new Uint8Array(data.buffer))
  }

  /**
   * The picture as the bytes of a file.
   *
   * @throws {RangeError} for an unknown format or a quality out of bounds
   */
  async toBuffer(format: ImageFormat = 'png', options: EncodeOptions = {}): Promise<Buffer> {
    const { default: sharp } = await import('sharp')
    const { data, width, height } = this
    const text = options.metadata !== false && this.metadata ? formatParameters(this.metadata) : undefined
    const raw = sharp(data, { raw: { width, height, channels: 3 } })
    switch (format) {
      case 'png': {
        const png = await raw
          .png({ compressionLevel: inRange('compressionLevel', options.compressionLevel ?? 6, 0, 9) })
          .toBuffer()
        return text === undefined ? png : withPngText(png, 'parameters', text)
      }
      case 'jpeg': {
        // Full colour resolution: generated pictures have saturated edges that halved chroma smears.
        const settings = { quality: quality(options), chromaSubsampling: '4:4:4' }
        return encode(raw, text, (image) => image.jpeg(settings))
      }
      case 'webp': {
        const settings = { quality: quality(options), lossless: options.lossless }
        return encode(raw, text, (image) => image.webp(settings))
      }
      default:
        throw new RangeError(`Expected one of png, jpeg, webp for format but received ${String(format)}`)
    }
  }

  /**
   * Writes the picture to a file as a whole or not at all; the extension says the format.
   *
   * @throws {RangeError} for an unknown extension
   * @throws {DiffusionError} IO: the file cannot be written; nothing is left behind
   */
  async toFile(path: string, options: FileOptions = {}): Promise<void> {
    const bytes = await this.toBuffer(options.format ?? formatOf(path), options)
    throwIfAborted(options.signal)
    await writeWholeFile(path, bytes, options.signal)
  }
}

/**
 * The format that a file's extension means.
 *
 * @throws {RangeError} it means none
 */
export function formatOf(path: string): ImageFormat {
  const extension = extname(path)
  const format = EXTENSIONS[extension.toLowerCase()]
  if (format) return format
  const known = Object.keys(EXTENSIONS).join(', ')
  throw new RangeError(`Expected a file name that ends in one of ${known} but received ${path}`)
}

function encode(image: Sharp, text: string | undefined, set: (image: Sharp) => Sharp): Promise<Buffer> {
  return text === undefined ? set(image).toBuffer() : withUserComment(image, text, set)
}

function quality(options: EncodeOptions): number {
  return inRange('quality', options.quality ?? 95, 1, 100)
}

function inRange(name: string, value: number, low: number, high: number): number {
  if (Number.isInteger(value) && value >= low && value <= high) return value
  throw new RangeError(
    `Expected integer between ${low} and ${high} for ${name} but received ${String(value)} of type ${typeof value}`,
  )
}
