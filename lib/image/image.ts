import { extname } from 'node:path'
import type { Sharp } from 'sharp'
import { throwIfAborted } from '../abort.js'
import { expectation } from '../check.js'
import { printable } from '../quote.js'
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
  /** jpeg and webp: 1…100. Default: 95. */
  quality?: number
  /** webp: lossless compression. */
  lossless?: boolean
  /** png: 0 (fast) … 9 (small). Default: 6. */
  compressionLevel?: number
  /**
   * Whether to write `image.metadata`, the parameters that the image was generated with, into the file. Default: true.
   */
  metadata?: boolean
}

export interface FileOptions extends EncodeOptions {
  /** Default: by the file's extension. */
  format?: ImageFormat
  /** Aborts writing; no partial file is left behind. */
  signal?: AbortSignal
}

/**
 * An 8-bit RGB image in memory, row by row.
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
  /** The parameters that the image was generated with. They are written into files in the web UIs' format. */
  metadata?: ImageMetadata

  /** @throws {RangeError} `data` does not have height·width·3 bytes */
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
   * Image `index` of a tensor [n, 3, height, width] or [3, height, width] in −1…1; values outside are clipped. A tensor
   * with one channel instead of three gives a grey image.
   *
   * @throws {RangeError} the tensor has another shape
   */
  static fromTensor(tensor: Tensor, index = 0): Image {
    const [n, channels, height, width] = tensor.shape.length === 3 ? [1, ...tensor.shape] : tensor.shape
    const fits = tensor.shape.length >= 3 && tensor.shape.length <= 4 && (channels === 3 || channels === 1)
    if (!fits || tensor.data.length !== n * channels * height * width || !(index >= 0 && index < n)) {
      throw new RangeError(
        `Expected image ${index} of a tensor [n, 3, height, width] but received [${tensor.shape.join(', ')}]`,
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
   * Encodes the image. The result is a `Buffer` in fact; the type spares users of TypeScript Node's declarations.
   *
   * @throws {RangeError} an unknown format, or an option out of bounds
   */
  async toBuffer(format: ImageFormat = 'png', options: EncodeOptions = {}): Promise<Uint8Array> {
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
        // Full chroma resolution: subsampling smears the saturated edges of generated images.
        const settings = { quality: quality(options), chromaSubsampling: '4:4:4' }
        return encode(raw, text, (image) => image.jpeg(settings))
      }
      case 'webp': {
        const settings = { quality: quality(options), lossless: options.lossless }
        return encode(raw, text, (image) => image.webp(settings))
      }
      default:
        throw new RangeError(expectation('one of png, jpeg, webp', 'format', format))
    }
  }

  /**
   * Writes the image to a file, completely or not at all. The extension determines the format.
   *
   * @throws {RangeError} an unknown extension, or an option out of bounds
   * @throws {DiffusionError} IO: the file cannot be written; no partial file is left behind
   */
  async toFile(path: string, options: FileOptions = {}): Promise<void> {
    const bytes = await this.toBuffer(options.format ?? formatOf(path), options)
    throwIfAborted(options.signal)
    await writeWholeFile(path, bytes, options.signal)
  }
}

/**
 * The format of a file by its extension.
 *
 * @throws {RangeError} the extension is not that of an image format
 */
export function formatOf(path: string): ImageFormat {
  const extension = extname(path)
  const format = EXTENSIONS[extension.toLowerCase()]
  if (format) return format
  const known = Object.keys(EXTENSIONS).join(', ')
  throw new RangeError(`Expected a file name that ends in one of ${known} but received ${printable(path)}`)
}

function encode(image: Sharp, text: string | undefined, set: (image: Sharp) => Sharp): Promise<Buffer> {
  return text === undefined ? set(image).toBuffer() : withUserComment(image, text, set)
}

function quality(options: EncodeOptions): number {
  return inRange('quality', options.quality ?? 95, 1, 100)
}

function inRange(name: string, value: number, low: number, high: number): number {
  if (Number.isInteger(value) && value >= low && value <= high) return value
  throw new RangeError(expectation(`integer between ${low} and ${high}`, name, value))
}
