import type { Image } from '../image/image.js'
import { formatOf } from '../image/image.js'
import { writeWholeFile } from '../image/write-file.js'

/** The file of --preview, which may be given without a name. */
export function previewPath(flag: string | true): string {
  return flag === true ? 'preview.png' : flag
}

/** A file that holds the latest preview. Previews that come while one is being written are skipped. */
export class PreviewFile {
  readonly #path: string
  readonly #scale: number
  #writing: Promise<void> | undefined
  #failure: Error | undefined

  /**
   * @param scale factor by which previews are enlarged, so that the file has the image's size
   * @throws {RangeError} the file's extension is not that of an image format
   */
  constructor(path: string, scale: number) {
    formatOf(path)
    this.#path = path
    this.#scale = scale
  }

  offer(preview: Image): void {
    if (this.#failure) throw this.#failure
    this.#writing ??= this.#write(preview)
      .catch((error: unknown) => (this.#failure = error as Error))
      .then(() => (this.#writing = undefined))
  }

  /** Resolves when no preview is being written any more. */
  async settled(): Promise<void> {
    await this.#writing
    if (this.#failure) throw this.#failure
  }

  async #write({ data, width, height }: Image): Promise<void> {
    const { default: sharp } = await import('sharp')
    const enlarged = sharp(data, { raw: { width, height, channels: 3 } }).resize(
      width * this.#scale,
      height * this.#scale,
    )
    await writeWholeFile(this.#path, await enlarged.toFormat(formatOf(this.#path)).toBuffer())
  }
}
