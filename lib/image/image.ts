import { extname } from 'node:path'
import { types } from 'node:util'
import type { Sharp } from 'sharp'
import { raceAbort, throwIfAborted } from '../abort.js'
import {
  checkBoolean,
  checkInteger,
  checkObject,
  checkOneOf,
  checkSignal,
  checkString,
  lengthOf,
  expectation,
} from '../check.js'
import { DiffusionError } from '../errors.js'
import { printable, shorten } from '../quote.js'
import type { Tensor } from '../types.js'
import { withUserComment } from './exif.js'
import { formatParameters, type ImageMetadata } from './parameters.js'
import { convertRows, planesOf } from './planes.js'
import { withPngText } from './png.js'
import { loadSharp } from './sharp.js'
import { writeWholeFile } from './write-file.js'

export type ImageFormat = 'png' | 'jpeg' | 'webp'

const EXTENSIONS = new Map<string, ImageFormat>([
  ['.png', 'png'],
  ['.jpg', 'jpeg'],
  ['.jpeg', 'jpeg'],
  ['.webp', 'webp'],
])

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

  /**
   * @throws {TypeError} an argument of the wrong type
   * @throws {RangeError} `data` does not have height·width·3 bytes
   */
  constructor(width: number, height: number, data: Uint8Array, metadata?: ImageMetadata) {
    checkInteger(width, 'width', 1, MAX_SIDE)
    checkInteger(height, 'height', 1, MAX_SIDE)
    if (!(types.isUint8Array(data) || types.isUint8ClampedArray(data)))
      throw new TypeError(expectation('Uint8Array', 'data', data))
    if (lengthOf(data) !== width * height * 3) {
      throw new RangeError(`Expected ${width}×${height}×3 bytes of RGB but received ${lengthOf(data)}`)
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
   * @throws {TypeError} something else than a tensor
   * @throws {RangeError} the tensor has another shape
   */
  static fromTensor(tensor: Tensor, index = 0): Image {
    const planes = planesOf(tensor, index)
    const { width, height } = planes
    const data = new Uint8ClampedArray(width * height * 3)
    convertRows(planes, data, 0, height)
    return new Image(width, height, new Uint8Array(data.buffer))
  }

  /**
   * Encodes the image. The result is a `Buffer` in fact; the type spares users of TypeScript Node's declarations.
   *
   * @throws {TypeError} an option of the wrong type, or one that does not exist
   * @throws {RangeError} an unknown format, or an option out of bounds
   * @throws {DiffusionError} IO: the image library cannot be loaded, or cannot encode the image
   */
  async toBuffer(format: ImageFormat = 'png', options: EncodeOptions = {}): Promise<Uint8Array> {
    const given = checkEncodeOptions(options)
    checkOneOf(format, 'format', imageFormats)
    const text = given.metadata && this.metadata ? formatParameters(this.metadata) : undefined
    const { width, height } = this
    const sharp = await loadSharp()
    const raw = sharp(this.data, { raw: { width, height, channels: 3 }, limitInputPixels: false })
    try {
      switch (format) {
        case 'png': {
          const png = await raw.png({ compressionLevel: given.compressionLevel }).toBuffer()
          return text === undefined ? png : withPngText(png, 'parameters', text)
        }
        case 'jpeg': {
          // Full chroma resolution: subsampling smears the saturated edges of generated images.
          const settings = { quality: given.quality, chromaSubsampling: '4:4:4' }
          return await encode(raw, text, (image) => image.jpeg(settings))
        }
        case 'webp': {
          const settings = { quality: given.quality, lossless: given.lossless }
          return await encode(raw, text, (image) => image.webp(settings))
        }
      }
    } catch (cause) {
      const message = `Cannot encode an image of ${width}×${height} as ${format}: ${(cause as Error).message}`
      throw new DiffusionError('IO', message, { cause })
    }
  }

  /**
   * Writes the image to a file, completely or not at all. The extension determines the format.
   *
   * @throws {TypeError} an option of the wrong type, or one that does not exist
   * @throws {RangeError} an unknown extension, or an option out of bounds
   * @throws {DiffusionError} IO: the file cannot be written; no partial file is left behind
   * @throws the signal's reason after an abort, within 100 ms
   */
  async toFile(path: string, options: FileOptions = {}): Promise<void> {
    checkString(path, 'path')
    const {
      format,
      signal: given,
      ...encoding
    } = checkObject(options, 'options', [...encodeKeys, 'format', 'signal'])
    const signal = checkSignal(given)
    throwIfAborted(signal)
    const encoded = this.toBuffer((format as ImageFormat | undefined) ?? formatOf(path), encoding)
    await writeWholeFile(path, await raceAbort(signal, encoded), signal)
  }
}

/** The formats that toBuffer() writes. */
const imageFormats: readonly ImageFormat[] = ['png', 'jpeg', 'webp']

/** Maximum width and height. */
const MAX_SIDE = 2 ** 20

const encodeKeys = [
  'quality',
  'lossless',
  'compressionLevel',
  'metadata',
] as const satisfies (keyof EncodeOptions)[]

function checkEncodeOptions(options: unknown): Required<EncodeOptions> {
  const { quality, lossless, compressionLevel, metadata } = checkObject(options, 'options', encodeKeys)
  return {
    quality: quality === undefined ? 95 : checkInteger(quality, 'quality', 1, 100),
    lossless: lossless === undefined ? false : checkBoolean(lossless, 'lossless'),
    compressionLevel:
      compressionLevel === undefined ? 6 : checkInteger(compressionLevel, 'compressionLevel', 0, 9),
    metadata: metadata === undefined ? true : checkBoolean(metadata, 'metadata'),
  }
}

/**
 * The format of a file by its extension.
 *
 * @throws {RangeError} the extension is not that of an image format
 */
export function formatOf(path: string): ImageFormat {
  checkString(path, 'path')
  const extension = extname(path)
  const format = EXTENSIONS.get(extension.toLowerCase())
  if (format) return format
  const known = [...EXTENSIONS.keys()].join(', ')
  throw new RangeError(
    `Expected a file name that ends in one of ${known} but received ${printable(shorten(path))}`,
  )
}

function encode(image: Sharp, text: string | undefined, set: (image: Sharp) => Sharp): Promise<Buffer> {
  return text === undefined ? set(image).toBuffer() : withUserComment(image, text, set)
}
