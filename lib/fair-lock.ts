import { abortReason, onAbort } from './abort.js'

/**
 * A mutual exclusion lock that serves its callers in the order in which they came. `await lock.acquire(signal)`
 * resolves to the function that releases it.
 */
export class FairLock {
  readonly #waiting: { enter: () => void; reject: (reason: unknown) => void }[] = []
  #held = false
  #closed?: { reason: unknown }
  #onIdle?: () => void

  /** Callers that wait, not counting the one that holds the lock. */
  get waiting(): number {
    return this.#waiting.length
  }

  /** Waits for the lock; rejects with the signal's reason after an abort, or with the reason that close() was given. */
  acquire(signal?: AbortSignal): Promise<() => void> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(this.#closed.reason)
      if (signal?.aborted) return reject(abortReason(signal))
      let unsubscribe = () => {}
      const entry = {
        enter: () => {
          unsubscribe()
          resolve(this.#releaser())
        },
        reject: (reason: unknown) => {
          unsubscribe()
          reject(reason)
        },
      }
      if (!this.#held) {
        this.#held = true
        return entry.enter()
      }
      this.#waiting.push(entry)
      unsubscribe = onAbort(signal, () => {
        this.#waiting.splice(this.#waiting.indexOf(entry), 1)
        reject(abortReason(signal!))
      })
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
