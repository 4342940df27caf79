/**
 * The sizes that AVIF, HEIF and SVG files claim, read before libvips reads them: beyond 100 million pixels along one side,
 * GLib writes to the host's stderr and the size becomes 1.
 */
import { constants, gunzipSync } from 'node:zlib'

/** Boxes that are looked into, and the bytes of theirs before the boxes inside. */
const CONTAINERS: ReadonlyMap<string, number> = new Map([
  ['meta', 4],
  ['iprp', 0],
  ['ipco', 0],
])

/** A file of one image has tens of boxes. */
const MAX_BOXES = 10_000

interface ClaimedSize {
  width: number
  height: number
}

/** Sizes in the header of a file, as far as they are known here; those of an SVG in pixels. */
export function claimedSizes(bytes: Uint8Array): ClaimedSize[] {
  return [...heifSizes(bytes), ...svgSizes(bytes)]
}

/** Every size in the properties of the images (ISO/IEC 14496-12 and 23008-12). */
function heifSizes(bytes: Uint8Array): ClaimedSize[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const typeAt = (at: number) => String.fromCharCode(...bytes.subarray(at, at + 4))
  if (bytes.length < 8 || typeAt(4) !== 'ftyp') return []
  const sizes: ClaimedSize[] = []
  let boxes = 0
  const visit = (begin: number, end: number): void => {
    for (let at = begin; at + 8 <= end && boxes < MAX_BOXES; boxes++) {
      let length = view.getUint32(at)
      let header = 8
      if (length === 1 && at + 16 <= end) {
        length = Number(view.getBigUint64(at + 8))
        header = 16
      }
      if (length === 0) length = end - at
      if (length < header) return
      const type = typeAt(at + 4)
      const content = at + header
      const stop = Math.min(at + length, end)
      const skipped = CONTAINERS.get(type)
      if (skipped !== undefined) visit(content + skipped, stop)
      if (type === 'ispe' && content + 12 <= stop)
        sizes.push({ width: view.getUint32(content + 4), height: view.getUint32(content + 8) })
      at += length
    }
  }
  visit(0, bytes.length)
  return sizes
}

/** libvips looks for the root element in so many bytes. */
const SVG_HEADER = 4096

/** Pixels of the units of CSS, and roughly those of the units that depend on a font. */
// prettier-ignore
const UNITS: Record<string, number> = { '': 1, px: 1, pt: 96 / 72, pc: 16, mm: 96 / 25.4, cm: 96 / 2.54, in: 96, em: 16, ex: 8, rem: 16 }

/** The size that the root element gives, or that follows from its viewBox. */
function svgSizes(bytes: Uint8Array): ClaimedSize[] {
  const text = Buffer.from(svgHead(bytes)).toString('latin1').replaceAll('\0', '')
  const root = /<(?:\w+:)?svg\b([^>]*)/.exec(text)?.[1]
  if (root === undefined) return []
  const attribute = (name: string) => {
    const found = new RegExp(`\\s${name}\\s*=\\s*(?:"([^"]*)"|'([^']*)')`).exec(root)
    return found && decodeReferences(found[1] ?? found[2])
  }
  const pixels = (name: string): number | undefined => {
    const match = /^\s*([+-]?[\d.]+(?:e[+-]?\d+)?)\s*([a-z]*)\s*$/i.exec(attribute(name) ?? '')
    return match ? Number(match[1]) * (UNITS[match[2].toLowerCase()] ?? 1) : undefined
  }
  const [, , boxWidth, boxHeight] = (attribute('viewBox') ?? '')
    .trim()
    .split(/[\s,]+/)
    .map(Number)
  const [width, height] = [pixels('width'), pixels('height')]
  return [
    {
      width: width ?? (height === undefined ? boxWidth : (height * boxWidth) / boxHeight),
      height: height ?? (width === undefined ? boxHeight : (width * boxHeight) / boxWidth),
    },
  ]
}

/** The beginning of the text, which may be compressed. */
function svgHead(bytes: Uint8Array): Uint8Array {
  const head = bytes.subarray(0, SVG_HEADER)
  if (head[0] !== 0x1f || head[1] !== 0x8b) return head
  try {
    // Of a part of the data, and at most its 1000-fold: 4 MB.
    return gunzipSync(head, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, SVG_HEADER)
  } catch {
    return head
  }
}

/** Numbers as character references. */
function decodeReferences(text: string): string {
  return text.replace(/&#(?:x([\da-f]{1,6})|(\d{1,7}));/gi, (_, hex?: string, decimal?: string) =>
    String.fromCharCode(hex === undefined ? Number(decimal) : parseInt(hex, 16)),
  )
}
