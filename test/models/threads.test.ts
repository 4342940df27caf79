/** All models of the fixtures give bitwise the same results on 1, 2 and 4 threads in every precision. */
import { join } from 'node:path'
import t from 'tap'
import { native } from '../../lib/native.js'
import { compute, load } from './compute.js'
import { cases, fixtures } from './fixtures.js'

const threadsBefore = native().cpu().threads
t.teardown(() => native().setThreads(threadsBefore))

const bits = (x: Float32Array | Int32Array) => Buffer.from(x.buffer, x.byteOffset, x.byteLength)

for (const precision of ['f32', 'bf16', 'int8'] as const) {
  t.test(precision, async (t) => {
    const subjects = new Map(
      cases.filter(({ model }) => !model.startsWith('forms')).map((of) => [of.model, of.component]),
    )
    for (const [name, component] of subjects) {
      const outputs: Buffer[][] = []
      for (const threads of [1, 2, 4]) {
        native().setThreads(threads)
        const model = await load(join(fixtures, name, component), component, precision)
        const all: Buffer[] = []
        for (const of of cases.filter((c) => c.model === name)) all.push(bits(await compute(model, of)))
        outputs.push(all)
        await model.dispose()
      }
      t.ok(outputs[0].length > 0 && outputs[0].every((output) => output.length > 0), `${name}: outputs`)
      for (const [i, threads] of [2, 4].entries())
        t.ok(
          outputs[0].every((output, n) => output.equals(outputs[i + 1][n])),
          `${name}: ${threads} threads`,
        )
    }
  })
}
