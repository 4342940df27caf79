import { SLICE, turn } from '../../event-loop.js'

/** Divides asynchronous parsing into slices, between which the event loop turns. */
export class TimeSlices {
  #start = performance.now()

  /** Waits for the next slice if the current one is over. */
  async pause(): Promise<void> {
    if (performance.now() - this.#start < SLICE) return
    await turn()
    this.#start = performance.now()
  }
}
