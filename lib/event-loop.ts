/**
 * Long work on the JavaScript thread in slices, between which the event loop turns. All such work of the process shares
 * one queue, so that a turn of the loop has at most one slice, however many calls run at the same time.
 */

/** Duration of a slice in milliseconds. */
export const SLICE = 8

const waiting: (() => void)[] = []

/** Gives one waiting piece of work its slice. */
function next(): void {
  waiting.shift()?.()
  if (waiting.length > 0) setImmediate(next)
}

/** Resolves when it is the caller's turn to work for one slice. */
export function turn(): Promise<void> {
  return new Promise((resolve) => {
    if (waiting.push(resolve) === 1) setImmediate(next)
  })
}

/** Runs `work` in slices. It must yield at least every millisecond or so, wherever it can be interrupted. */
export async function inSlices<T>(work: Generator<void, T, void>): Promise<T> {
  for (;;) {
    await turn()
    const end = performance.now() + SLICE
    do {
      const { done, value } = work.next()
      if (done) return value
    } while (performance.now() < end)
  }
}
