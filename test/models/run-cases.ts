/**
 * A process that computes all cases with the kernel table of NODE_DIFFUSION_KERNELS. It prints a line with the name of
 * the table, then one line of JSON for each case.
 */
import { join } from 'node:path'
import { native } from '../../lib/native.js'
import { compute, difference, expected, load, type Difference } from './compute.js'
import { cases, fixtures, type Component } from './fixtures.js'

export interface Report extends Difference {
  name: string
  threads: number
  exact: boolean
}

const print = (value: unknown) => process.stdout.write(`${JSON.stringify(value)}\n`)

async function main(): Promise<void> {
  print({ kernel: native().cpu().kernel })
  const models = new Map<string, Component>()
  for (const { model, component } of cases) if (!model.startsWith('forms')) models.set(model, component)
  for (const [name, component] of models) {
    const model = await load(join(fixtures, name, component), component)
    for (const of of cases.filter((c) => c.model === name)) {
      for (const threads of [1, 3]) {
        native().setThreads(threads)
        const wanted = expected(of)
        const result = difference(await compute(model, of), wanted)
        const exact = wanted instanceof Int32Array || of.kind === 'lookup'
        print({ name: of.name, threads, exact, ...result } satisfies Report)
      }
    }
    await model.dispose()
  }
}

await main()
