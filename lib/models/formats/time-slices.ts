import { SLICE, turn } from '../../event-loop.js'

/** Divides long parsing into slices, between which the event loop runs. */
export class TimeSlices {
  #start = performance.now()

  /** Lets the event loop run if the current slice is over. */
  async pause(): Promise<void> {
    if (performance.now() - this.#start < SLICE) return
    await turn()
    this.#start = performance.now()
  }
}
