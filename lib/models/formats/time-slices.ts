import { setImmediate } from 'node:timers/promises'

/** Milliseconds for which parsing may keep the event loop waiting. */
const SLICE = 10

/** Divides long parsing into slices, between which the event loop runs. */
export class TimeSlices {
  #start = performance.now()

  /** Lets the event loop run if the current slice is over. */
  async pause(): Promise<void> {
    if (performance.now() - this.#start < SLICE) return
    await setImmediate()
    this.#start = performance.now()
  }
}
