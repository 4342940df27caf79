/** The process in which one harness runs: node --expose-gc harness-process.js MODULE COUNT SEED. Sends its result by IPC. */
import type { Harness } from './harness.js'

const [, , module, count, seed] = process.argv
// A promise that never settles would end the process with status 0 and without a result; run-harness.ts counts that as a crash.
const harness = (await import(module)) as Harness
const result = await harness.run({ count: Number(count), seed: Number(seed) })
process.send!(result, () => process.exit(0))
