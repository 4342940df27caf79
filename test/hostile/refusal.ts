/** Calls that are refused take no memory: neither the memory that they ask for, nor a little that stays each time. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Test } from 'tap'
import { growthOfEach } from './harness.js'

/** Bytes for each call: half of the leak that this has to find. What calls ask for is thousands of times as much. */
const MOST = 0.3e6

/** Checks that calls of `refused`, which must all reject, do not let the memory of the process grow. */
export async function allocatesNothing(
  t: Test,
  count: number,
  refused: () => Promise<unknown>,
): Promise<void> {
  // heldBytes() collects garbage, for which Node.js has to be told to.
  setFlagsFromString('--expose-gc')
  globalThis.gc ??= runInNewContext('gc') as NodeJS.GCFunction
  let refusals = 0
  let calls = 0
  const call = async () => {
    calls++
    await refused().catch(() => refusals++)
  }
  const grown = await growthOfEach(count, call, MOST)
  t.equal(refusals, calls, 'every call is refused')
  t.ok(grown < MOST, `a refused call takes ${(grown / 1e6).toFixed(2)} MB`)
}
