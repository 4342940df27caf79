/** Text chunks of PNG files. sharp writes none, so they are inserted into the file that it made. */

/**
 * Bytes of the signature and the IHDR chunk (length, type, 13 bytes, checksum). Text chunks are inserted after them.
 */
const AFTER_HEADER = 8 + 25

/**
 * An encoded PNG with one more text chunk: tEXt, which every program reads, for Latin-1 text, otherwise iTXt.
 *
 * @param keyword 1…79 Latin-1 characters; Stable Diffusion web UIs read `parameters`
 */
export function withPngText(png: Uint8Array, keyword: string, text: string): Buffer {
  // Fields of text chunks end with a zero byte, so they cannot contain one.
  const clean = text.replaceAll('\0', '')
  const chunk = isLatin1(clean)
    ? pngChunk('tEXt', Buffer.from(`${keyword}\0${clean}`, 'latin1'))
    : // The zero bytes: end of keyword, not compressed, compression method, end of language, end of translated keyword.
      pngChunk(
        'iTXt',
        Buffer.concat([Buffer.from(`${keyword}\0\0\0\0\0`, 'latin1'), Buffer.from(clean, 'utf8')]),
      )
  return Buffer.concat([png.subarray(0, AFTER_HEADER), chunk, png.subarray(AFTER_HEADER)])
}

/** The uncompressed texts (tEXt and iTXt) of a PNG by keyword; none for other files. */
export function readPngTexts(png: Uint8Array): Map<string, string> {
  const texts = new Map<string, string>()
  const buffer = Buffer.from(png.buffer, png.byteOffset, png.byteLength)
  if (!buffer.subarray(0, 8).equals(Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'))) return texts
  for (let at = 8; at + 12 <= buffer.length;) {
    const length = buffer.readUInt32BE(at)
    const type = buffer.toString('latin1', at + 4, at + 8)
    const body = buffer.subarray(at + 8, at + 8 + length)
    const keywordEnd = body.indexOf(0)
    if (type === 'tEXt' && keywordEnd > 0) {
      texts.set(body.toString('latin1', 0, keywordEnd), body.toString('latin1', keywordEnd + 1))
    }
    if (type === 'iTXt' && keywordEnd > 0 && body[keywordEnd + 1] === 0) {
      const translated = body.indexOf(0, keywordEnd + 3) + 1
      texts.set(
        body.toString('latin1', 0, keywordEnd),
        body.toString('utf8', body.indexOf(0, translated) + 1),
      )
    }
    at += 12 + length
  }
  return texts
}

function isLatin1(text: string): boolean {
  return /^[\n\x20-\x7e\xa0-\xff]*$/.test(text)
}

/** Length, type, content, and the checksum of type and content. */
function pngChunk(type: string, content: Buffer): Buffer {
  const chunk = Buffer.alloc(12 + content.length)
  chunk.writeUInt32BE(content.length, 0)
  chunk.write(type, 4, 'latin1')
  content.copy(chunk, 8)
  chunk.writeUInt32BE(crc32(chunk.subarray(4, 8 + content.length)), 8 + content.length)
  return chunk
}

/** CRC-32. zlib.crc32 needs Node 20.15, and a text of some hundred bytes needs no table. */
function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1
  }
  return ~crc >>> 0
}
