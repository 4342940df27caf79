import type { Image } from '../image/image.js'
import { formatOf } from '../image/image.js'
import { writeWholeFile } from '../image/write-file.js'

/** A file that always holds the newest preview. While one is being written, later ones are left out. */
export class PreviewFile {
  readonly #path: string
  readonly #enlarged: number
  #writing: Promise<void> | undefined
  #failure: Error | undefined

  /**
   * @param enlarged how often each pixel of a preview is repeated, so that the file has the image's size
   * @throws {RangeError} the extension means no format
   */
  constructor(path: string, enlarged: number) {
    formatOf(path)
    this.#path = path
    this.#enlarged = enlarged
  }

  offer(preview: Image): void {
    if (this.#failure) throw this.#failure
    this.#writing ??= this.#write(preview)
      .catch((error: unknown) => (this.#failure = error as Error))
      .then(() => (this.#writing = undefined))
  }

  /** When nothing is being written any more. */
  async settled(): Promise<void> {
    await this.#writing
    if (this.#failure) throw this.#failure
  }

  async #write({ data, width, height }: Image): Promise<void> {
    const { default: sharp } = await import('sharp')
    const enlarged = sharp(data, { raw: { width, height, channels: 3 } }).resize(
      width * this.#enlarged,
      height * this.#enlarged,
    )
    await writeWholeFile(this.#path, await enlarged.toFormat(formatOf(this.#path)).toBuffer())
  }
}
