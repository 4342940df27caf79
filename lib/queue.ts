/**
 * A line of callers: one is served at a time, in the order in which they came. `await line.turn(signal)` resolves when
 * it is the caller's turn, to the function that ends it. Whoever waits can leave (`signal`), and close() sends all away.
 */
export class Line {
  readonly #waiting: { serve: () => void; leave: (reason: unknown) => void }[] = []
  #busy = false
  #closed?: { reason: unknown }
  #idle?: () => void

  /** Callers that wait, without the one being served. */
  get length(): number {
    return this.#waiting.length
  }

  /** Waits for this caller's turn; rejects with `signal.reason`, or with the reason that close() was given. */
  turn(signal?: AbortSignal): Promise<() => void> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(this.#closed.reason)
      if (signal?.aborted) return reject(signal.reason)
      const onAbort = () => {
        this.#waiting.splice(this.#waiting.indexOf(entry), 1)
        reject(signal!.reason)
      }
      const entry = {
        serve: () => {
          signal?.removeEventListener('abort', onAbort)
          resolve(this.#ender())
        },
        leave: (reason: unknown) => {
          signal?.removeEventListener('abort', onAbort)
          reject(reason)
        },
      }
      if (!this.#busy) {
        this.#busy = true
        return entry.serve()
      }
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#waiting.push(entry)
    })
  }

  /** Refuses everyone who waits or comes later; resolves when the turn under way has ended. */
  async close(reason: unknown): Promise<void> {
    this.#closed ??= { reason }
    for (const entry of this.#waiting.splice(0)) entry.leave(reason)
    if (this.#busy) {
      const before = this.#idle
      await new Promise<void>((resolve) => {
        this.#idle = () => {
          before?.()
          resolve()
        }
      })
    }
  }

  #ender(): () => void {
    let ended = false
    return () => {
      if (ended) return
      ended = true
      const next = this.#waiting.shift()
      if (next) return next.serve()
      this.#busy = false
      this.#idle?.()
      this.#idle = undefined
    }
  }
}
