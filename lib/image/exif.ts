import type { Sharp } from 'sharp'

/** A JPEG segment holds 64 KB with all of the EXIF data in it; longer texts are cut. */
const LONGEST = 30_000

/**
 * Encodes a picture with a text in EXIF's UserComment, where web UIs look in files that are no PNG.
 *
 * @param encode sets the format: `(image) => image.jpeg(…)`
 */
export async function withUserComment(
  image: Sharp,
  text: string,
  encode: (image: Sharp) => Sharp,
): Promise<Buffer> {
  const comment = text.slice(0, LONGEST).replaceAll('\0', '')
  if (/^[\n\x20-\x7e]*$/.test(comment)) {
    return encode(image.withExif({ IFD2: { UserComment: comment } })).toBuffer()
  }
  // The library below sharp writes ASCII only (it turns é into e and 猫 into ?). So it gets a stand-in of the length
  // that the text has in UTF-16, which is then overwritten in the file. "UNICODE\0" is as long as "ASCII\0\0\0".
  const standIn = 'node-diffusion:'.repeat(comment.length).slice(0, comment.length * 2)
  const file = await encode(image.withExif({ IFD2: { UserComment: standIn } })).toBuffer()
  const at = file.indexOf(Buffer.from(`ASCII\0\0\0${standIn}`, 'latin1'))
  if (at >= 0) Buffer.concat([Buffer.from('UNICODE\0', 'latin1'), utf16be(comment)]).copy(file, at)
  return file
}

function utf16be(text: string): Buffer {
  return Buffer.from(text, 'utf16le').swap16()
}
