import { setImmediate } from 'node:timers/promises'
import { throwIfAborted } from './abort.js'

/** Milliseconds that a computation may keep the event loop waiting. */
const SLICE = 8

/**
 * Divides a long computation into slices, so that the event loop is never kept waiting for long and an abort takes
 * effect in between: `await slice.pause()` after each small part of the work.
 */
export class TimeSlice {
  #began = performance.now()

  constructor(private readonly signal?: AbortSignal) {}

  /** Whether the slice is over. */
  get over(): boolean {
    return performance.now() - this.#began >= SLICE
  }

  /**
   * If the slice is over, lets the event loop take its turn, and begins the next slice.
   *
   * @throws the signal's reason after an abort
   */
  async pause(): Promise<void> {
    if (!this.over) return
    await setImmediate()
    throwIfAborted(this.signal)
    this.#began = performance.now()
  }
}
