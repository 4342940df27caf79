/** Decodes images. The header is read first: it tells how much memory decoding takes. */
import type { Metadata, Sharp } from 'sharp'
import { raceAbort, throwIfAborted } from '../abort.js'
import { formatBytes, requireMemory } from '../memory.js'
import { printable, shorten } from '../quote.js'
import { claimedSizes } from './claimed-size.js'
import { loadSharp } from './sharp.js'
import { cannotRead, readSource, type ImageBytes } from './source.js'

/** A width and height in pixels. */
export interface ImageSize {
  width: number
  height: number
}

/** Interleaved bytes: RGB, or RGBA where transparency was asked for. */
export interface Pixels extends ImageSize {
  data: Uint8Array
}

/** An image whose header has been read. */
export interface OpenedImage extends ImageSize {
  /**
   * Decodes it, resized while it is decoded.
   *
   * @param edit resizes and crops; nothing by default
   * @param transparency whether the result is RGBA. Otherwise transparent parts become white
   */
  decode(edit?: (image: Sharp) => Sharp, transparency?: boolean): Promise<Pixels>
  /** Decodes it to grey, with 16 bits where the file has more than eight. Transparency is ignored. */
  decodeGrey(): Promise<GreyPixels>
}

/** One number for each pixel: the mean of its colours, 0…255 or 0…65535. */
export interface GreyPixels extends ImageSize {
  data: Float32Array
}

/** Larger images are refused. Cameras reach 100 megapixels; a file of a thousand bytes can claim much more. */
const MAX_PIXELS = 2 ** 27

/** Along one side. libvips has a limit of its own, ten times as high, beyond which GLib writes to the host's stderr. */
const MAX_SIDE = 10_000_000

/** Seconds after which decoding ends. It cannot be cancelled, and nobody waits for it after an abort. */
const MAX_SECONDS = 60

/** Images whose decoding would take more memory are refused, too. */
const MAX_BYTES = 2 ** 30

/** Bytes for each pixel that decoding takes at its peak. AVIF takes 18 as measured, interlaced PNG and GIF 4 to 5. */
const BYTES_PER_PIXEL = 5
const AVIF_BYTES_PER_PIXEL = 20

/**
 * Reads the header of an image. Width and height are those of the upright image, after its EXIF orientation.
 *
 * @throws {TypeError} the input is no image source
 * @throws {RangeError} it has too many pixels
 * @throws {DiffusionError} IO: it cannot be read; OUT_OF_MEMORY: it does not fit into memory
 * @throws the signal's reason after an abort
 */
export async function openImage(input: unknown, path: string, signal?: AbortSignal): Promise<OpenedImage> {
  const source = await readSource(input, path, signal)
  const sharp = await raceAbort(signal, loadSharp())
  const { bytes, raw, name } = source
  const make = (limitInputPixels: number | false) =>
    raw
      ? sharp(bytes, { raw: { ...raw, channels: 3 }, limitInputPixels: false })
      : sharp(bytes, { autoOrient: true, limitInputPixels }).timeout({ seconds: MAX_SECONDS })
  const { width, height, deep } =
    (raw && { ...raw, deep: false }) ??
    (await raceAbort(
      signal,
      readHeader(source, () => make(false), path),
    ))
  const failed = (cause: unknown) => {
    throwIfAborted(signal)
    throw decodingError(name, cause)
  }
  return {
    width,
    height,
    async decodeGrey() {
      throwIfAborted(signal)
      const image = make(MAX_PIXELS).removeAlpha()
      const decoding = (
        deep
          ? image.toColourspace('rgb16').raw({ depth: 'ushort' })
          : image.toColourspace('srgb').raw({ depth: 'uchar' })
      ).toBuffer({ resolveWithObject: true })
      const { data, info } = await raceAbort(signal, decoding).catch(failed)
      return {
        data: meanOfColours(
          deep ? new Uint16Array(data.buffer, data.byteOffset, data.length / 2) : data,
          info.channels,
        ),
        width: info.width,
        height: info.height,
      }
    },
    async decode(edit = (image) => image, transparency = false) {
      throwIfAborted(signal)
      const plain = make(MAX_PIXELS).toColourspace('srgb')
      const edited = edit(transparency ? plain.ensureAlpha() : plain.flatten({ background: '#ffffff' }))
      const decoding = edited.raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true })
      const { data, info } = await raceAbort(signal, decoding).catch(failed)
      const channels = transparency ? 4 : 3
      return { data: channelsOf(data, info.channels, channels), width: info.width, height: info.height }
    },
  }
}

/** The size of the upright image, and whether it has more than eight bits for each colour. */
async function readHeader(
  { name, bytes: file }: ImageBytes,
  make: () => Sharp,
  path: string,
): Promise<ImageSize & { deep: boolean }> {
  for (const size of claimedSizes(file)) requireFewPixels(size, path)
  let header: Metadata
  try {
    header = await make().metadata()
  } catch (cause) {
    throw decodingError(name, cause)
  }
  const { format, depth } = header
  const { width, height } = header.autoOrient ?? header
  if (!(width >= 1 && height >= 1)) throw cannotRead(name, 'its header has no size')
  requireFewPixels({ width, height }, path)
  const bytes =
    width *
    height *
    (format === 'heif' ? AVIF_BYTES_PER_PIXEL : BYTES_PER_PIXEL) *
    (depth === 'uchar' ? 1 : 2)
  if (bytes > MAX_BYTES) {
    throw new RangeError(
      `Expected at most ${formatBytes(MAX_BYTES)} for decoding ${path}, but ${width}×${height} as ${format} takes ` +
        formatBytes(bytes),
    )
  }
  requireMemory(bytes, `Decoding an image of ${width}×${height}`)
  return { width, height, deep: depth !== 'uchar' }
}

function requireFewPixels({ width, height }: ImageSize, path: string): void {
  if (width * height > MAX_PIXELS) {
    throw new RangeError(
      `Expected at most ${Math.floor(MAX_PIXELS / 1e6)} megapixels for ${path} but received ${width}×${height}`,
    )
  }
  if (width > MAX_SIDE || height > MAX_SIDE)
    throw new RangeError(
      `Expected sides of at most ${MAX_SIDE} pixels for ${path} but received ${width}×${height}`,
    )
}

function meanOfColours(values: Uint8Array | Uint16Array, channels: number): Float32Array {
  const out = new Float32Array(values.length / channels)
  for (let i = 0; i < values.length; i++) out[Math.floor(i / channels)] += values[i] / channels
  return out
}

function decodingError(name: string, cause: unknown) {
  // The first line says what is wrong; libvips adds a line for each of its layers.
  const [line] = (cause as Error).message.split('\n')
  return cannotRead(name, shorten(printable(line), 200), cause)
}

/** The first `wanted` of `given` interleaved channels; a single channel is repeated. */
function channelsOf(data: Uint8Array, given: number, wanted: number): Uint8Array {
  if (given === wanted) return data
  const pixels = data.length / given
  const result = new Uint8Array(pixels * wanted)
  const alpha = given === 2 || given === 4 ? given - 1 : -1
  const colours = alpha < 0 ? given : alpha
  for (let i = 0; i < pixels; i++) {
    for (let c = 0; c < wanted; c++) {
      const from = c === 3 ? alpha : Math.min(c, colours - 1)
      result[i * wanted + c] = from < 0 ? 255 : data[i * given + from]
    }
  }
  return result
}
