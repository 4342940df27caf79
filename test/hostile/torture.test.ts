/** A few cases of each harness; `npm run torture` runs all of them. */
import t from 'tap'
import { findHarnesses, runHarness } from './run-harness.js'

const harnesses = await findHarnesses()
t.ok(harnesses.length > 0)
t.equal(new Set(harnesses.map(({ name }) => name)).size, harnesses.length, 'names are unique')

for (const harness of harnesses) {
  t.test(harness.name, async (t) => {
    const count = harness.counts.small
    const result = await runHarness(harness, { count, seed: 1, timeout: 240_000 })
    t.same(result.failures, [])
    t.equal(result.crashed, 0, 'crashes')
    let { leaked } = result
    if (leaked > 0) {
      // Resident memory also grows with the garbage collector's heap. A leak grows with the number of cases.
      const twice = await runHarness(harness, { count: 2 * count, seed: 2, timeout: 240_000 })
      if (twice.leaked < 1.5 * leaked) leaked = 0
    }
    t.equal(leaked, 0, 'bytes leaked')
    t.ok(
      result.tried > 0,
      `${result.tried} tried, worst event-loop delay ${result.delay.worst.toFixed(1)} ms`,
    )
    // CPU time, which other processes lengthen by little. On an idle machine it is below 100 ms.
    t.ok(result.delay.cpu < 250, `longest turn of the event loop: ${result.delay.cpu.toFixed(1)} ms`)
  })
}
