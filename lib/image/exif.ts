import type { Sharp } from 'sharp'

/** Longer texts are truncated: a JPEG segment holds 64 KB for all EXIF data, two bytes for each character. */
const MAX_LENGTH = 30_000

/**
 * Encodes an image with a text in EXIF's UserComment, where web UIs look for it in other files than PNGs.
 *
 * @param encode sets the format: `(image) => image.jpeg(…)`
 */
export async function withUserComment(
  image: Sharp,
  text: string,
  encode: (image: Sharp) => Sharp,
): Promise<Buffer> {
  const comment = text.slice(0, MAX_LENGTH).replaceAll('\0', '')
  if (/^[\n\x20-\x7e]*$/.test(comment)) {
    return encode(image.withExif({ IFD2: { UserComment: comment } })).toBuffer()
  }
  // libvips writes ASCII only (it turns é into e and 猫 into ?). So it gets a placeholder of the text's length in
  // UTF-16, which is then overwritten in the file. "UNICODE\0" is as long as "ASCII\0\0\0".
  const placeholder = 'node-diffusion:'.repeat(comment.length).slice(0, comment.length * 2)
  const file = await encode(image.withExif({ IFD2: { UserComment: placeholder } })).toBuffer()
  const at = file.indexOf(Buffer.from(`ASCII\0\0\0${placeholder}`, 'latin1'))
  if (at >= 0) Buffer.concat([Buffer.from('UNICODE\0', 'latin1'), utf16be(comment)]).copy(file, at)
  return file
}

function utf16be(text: string): Buffer {
  return Buffer.from(text, 'utf16le').swap16()
}
