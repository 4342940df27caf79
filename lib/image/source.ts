/** Where an input image comes from: a file, a data: URL, bytes in memory or an Image. */
import { open, stat } from 'node:fs/promises'
import { types } from 'node:util'
import { raceAbort, throwIfAborted } from '../abort.js'
import { copyBytes, expectation, isReadable } from '../check.js'
import { DiffusionError } from '../errors.js'
import { requireMemory } from '../memory.js'
import { printable, quote, shorten } from '../quote.js'
import { Image } from './image.js'

/**
 * A path, a `data:` URL, the bytes of a file in any format that sharp reads (PNG, JPEG, WebP, AVIF, GIF, TIFF, SVG), or
 * an image in memory.
 */
export type ImageSource = string | Uint8Array | Image

/** A source whose bytes have been read. */
export interface ImageBytes {
  /** How messages name it. */
  name: string
  /** An encoded file, or the pixels of an Image. */
  bytes: Uint8Array
  /** The size of an Image, whose pixels need no decoding. */
  raw?: { width: number; height: number }
}

/** Longer paths are abridged in messages: they are probably no paths. */
const MAX_SHOWN_PATH = 255

/** Maximum number of characters of a data: URL that is not in base64. */
const MAX_ESCAPED = 1 << 20

/**
 * Reads the bytes. libvips is never given a path: it would keep what it decoded under that name after the file has been
 * replaced, and an SVG could read other files of its folder.
 *
 * @throws {TypeError} the input is something else
 * @throws {DiffusionError} IO: the file cannot be read, or the URL is none
 */
export async function readSource(input: unknown, path: string, signal?: AbortSignal): Promise<ImageBytes> {
  if (typeof input !== 'string') return memorySource(input, path)
  if (/^data:/i.test(input)) return { name: `the data: URL for ${path}`, bytes: decodeDataUrl(input, path) }
  const name = input.length <= MAX_SHOWN_PATH ? printable(input) : quote(input, 60)
  throwIfAborted(signal)
  return { name, bytes: await raceAbort(signal, readBytes(input, name)) }
}

/** The bytes are copied, because the caller may change them afterwards. */
function memorySource(input: unknown, path: string): ImageBytes {
  const name = 'the image'
  if (isReadable(input) && input instanceof Image) {
    const { width, height, data } = input
    return { name, bytes: copyBytes(data), raw: { width, height } }
  }
  if (types.isUint8Array(input)) return { name, bytes: copyBytes(input) }
  throw new TypeError(expectation('path, data: URL, encoded image (Uint8Array) or Image', path, input))
}

async function readBytes(path: string, name: string): Promise<Uint8Array> {
  const size = await sizeOfFile(path, name)
  requireMemory(size, `The file ${name}`)
  try {
    const file = await open(path)
    try {
      return await file.readFile()
    } finally {
      await file.close()
    }
  } catch (cause) {
    throw cannotRead(name, (cause as Error).message, cause)
  }
}

/** Refuses folders, devices and named pipes: reading some of them would never end. */
async function sizeOfFile(path: string, name: string): Promise<number> {
  let what: string
  try {
    const found = await stat(path)
    if (found.isFile()) return found.size
    what = 'it is not a file'
  } catch (cause) {
    what = missing(path, cause as NodeJS.ErrnoException)
  }
  throw cannotRead(name, what)
}

function missing(path: string, { code, message }: NodeJS.ErrnoException): string {
  if (looksLikeBase64(path))
    return 'there is no such file. Base64 text needs "data:image/png;base64," in front of it'
  if (code === 'ENOENT' || code === 'ENOTDIR') return 'there is no such file'
  if (code === 'ENAMETOOLONG') return 'the name is too long'
  if (code === 'ERR_INVALID_ARG_VALUE') return 'a path cannot contain a null byte'
  return shorten(printable(message), 200)
}

function looksLikeBase64(text: string): boolean {
  return text.length > 100 && /^[\w+/-]{100}$/.test(text.slice(0, 100))
}

/** The content of a data: URL (RFC 2397). */
function decodeDataUrl(url: string, path: string): Uint8Array {
  const comma = url.indexOf(',')
  const head = comma < 0 ? '' : url.slice(0, Math.min(comma, 1000))
  const body = url.slice(comma + 1)
  if (comma >= 0) {
    if (/;\s*base64\s*$/i.test(head)) return new Uint8Array(Buffer.from(body, 'base64'))
    try {
      // Longer ones would keep the event loop waiting.
      if (body.length <= MAX_ESCAPED) return new Uint8Array(Buffer.from(decodeURIComponent(body)))
    } catch {
      // An escape that is none.
    }
  }
  throw new DiffusionError('IO', `Cannot read the data: URL for ${path}: it begins with ${quote(url, 60)}`)
}

/** The error of an image that cannot be read. */
export function cannotRead(name: string, why: string, cause?: unknown): DiffusionError {
  return new DiffusionError('IO', `Cannot read ${name}: ${why}`, cause === undefined ? {} : { cause })
}
