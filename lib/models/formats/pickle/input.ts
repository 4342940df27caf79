import { badFormat } from '../fail.js'

const WINDOW = 1 << 20

/** Reads the bytes of a pickle in their order through a window, so that a large file is never read whole. */
export class PickleInput {
  #window: Buffer = Buffer.alloc(0)
  #at = 0
  /** Position in the file of the window's end. */
  #next: number

  /**
   * @param start position of the pickle's first byte
   * @param end position that it cannot go beyond
   */
  constructor(
    readonly path: string,
    private readonly read: (position: number, length: number) => Promise<Buffer>,
    start: number,
    private readonly end: number,
  ) {
    this.#next = start
  }

  /** Position of the next byte. */
  get position(): number {
    return this.#next - (this.#window.length - this.#at)
  }

  /** Whether `count` bytes can be taken without reading the file. */
  has(count: number): boolean {
    return this.#window.length - this.#at >= count
  }

  /** Reads on until `count` bytes can be taken. */
  async fill(count: number): Promise<void> {
    if (this.has(count)) return
    if (count > this.end - this.position) {
      throw badFormat(
        this.path,
        `truncated: the pickle needs ${count} bytes at byte ${this.position}, but only ${this.end - this.position} follow`,
      )
    }
    const rest = this.#window.subarray(this.#at)
    const length = Math.min(this.end - this.#next, Math.max(WINDOW, count - rest.length))
    this.#window = Buffer.concat([rest, await this.read(this.#next, length)])
    this.#next += length
    this.#at = 0
  }

  async skip(count: number): Promise<void> {
    const buffered = this.#window.length - this.#at
    if (count <= buffered) {
      this.#at += count
      return
    }
    if (count > this.end - this.position) await this.fill(count)
    this.#next += count - buffered
    this.#window = Buffer.alloc(0)
    this.#at = 0
  }

  /** The next bytes, which must have been filled. */
  take(count: number): Buffer {
    this.#at += count
    return this.#window.subarray(this.#at - count, this.#at)
  }

  byte(): number {
    return this.#window[this.#at++]
  }

  /** The text up to the next line end, without it. */
  async line(limit: number): Promise<string> {
    for (let length = 0; length <= limit; length++) {
      if (!this.has(length + 1)) await this.fill(length + 1)
      if (this.#window[this.#at + length] === 0x0a) {
        const text = this.take(length).toString('utf8')
        this.#at++
        return text
      }
    }
    throw badFormat(
      this.path,
      `expected a line of at most ${limit} bytes at byte ${this.position} of the pickle`,
    )
  }
}
