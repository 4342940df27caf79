/**
 * A mutual exclusion lock that serves its callers in the order in which they came. `await lock.acquire(signal)` resolves
 * to the function that releases it.
 */
export class FairLock {
  #waiting: { enter: () => void; reject: (reason: unknown) => void }[] = []
  #held = false
  #closed?: { reason: unknown }
  #onIdle?: () => void

  /** Callers that wait, not counting the one that holds the lock. */
  get waiting(): number {
    return this.#waiting.length
  }

  /** Waits for the lock; rejects with `signal.reason` after an abort, or with the reason that close() was given. */
  acquire(signal?: AbortSignal): Promise<() => void> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(this.#closed.reason)
      if (signal?.aborted) return reject(signal.reason)
      const onAbort = () => {
        this.#waiting.splice(this.#waiting.indexOf(entry), 1)
        reject(signal!.reason)
      }
      const entry = {
        enter: () => {
          signal?.removeEventListener('abort', onAbort)
          resolve(this.#releaser())
        },
        reject: (reason: unknown) => {
          signal?.removeEventListener('abort', onAbort)
          reject(reason)
        },
      }
      if (!this.#held) {
        this.#held = true
        return entry.enter()
      }
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#waiting.push(entry)
    })
  }

  /** Rejects all waiting and later callers; resolves when the lock has been released. */
  async close(reason: unknown): Promise<void> {
    this.#closed ??= { reason }
    for (const entry of this.#waiting.splice(0)) entry.reject(reason)
    if (this.#held) {
      const before = this.#onIdle
      await new Promise<void>((resolve) => {
        this.#onIdle = () => {
          before?.()
          resolve()
        }
      })
    }
  }

  /** A function that passes the lock on; calling it again does nothing. */
  #releaser(): () => void {
    let released = false
    return () => {
      if (released) return
      released = true
      const next = this.#waiting.shift()
      if (next) return next.enter()
      this.#held = false
      this.#onIdle?.()
      this.#onIdle = undefined
    }
  }
}
