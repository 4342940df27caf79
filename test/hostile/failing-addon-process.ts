/** The process in which calls of the addon fail; see failing-addon.torture.ts. */
import { createHash } from 'node:crypto'
import { DiffusionPipeline } from '../../lib/index.js'
import type { Report } from './failing-addon.torture.js'
import { DelayWatch, Random, heldBytes, leakedBytes, settled } from './harness.js'

/** What preload/failing.cpp exports. */
interface Failing {
  from(kind: number, call: number): void
  stop(): { failed: boolean; calls: number }
}
const [memory, read, thread] = [0, 1, 2]

const [, , preload, first, count, seed] = process.argv
const module = { exports: {} as Failing }
process.dlopen(module, preload)
const failing = module.exports

const report = (message: Report) => process.send!(message)
const options = { prompt: 'noto pizza', steps: 1, seed: 1 } as const
const draw = async (pipe: DiffusionPipeline) =>
  createHash('sha1')
    .update((await pipe.generate(options)).images[0].data)
    .digest('hex')

interface Scenario {
  name: string
  kind: number
  code: string
  /** The part in which calls fail. */
  run(pipe: DiffusionPipeline): Promise<unknown>
}
const load = () => DiffusionPipeline.load().then((pipe) => pipe.dispose())
const scenarios: Scenario[] = [
  { name: 'allocations of load() and dispose()', kind: memory, code: 'OUT_OF_MEMORY', run: load },
  { name: 'allocations of generate()', kind: memory, code: 'OUT_OF_MEMORY', run: draw },
  { name: 'reads of load()', kind: read, code: 'IO', run: load },
  { name: 'thread starts of generate()', kind: thread, code: 'OUT_OF_MEMORY', run: draw },
]

let pipe = await DiffusionPipeline.load()
const expected = await draw(pipe)
await load()

// How many calls each scenario makes. Those at the beginning have a case each, the rest random ones.
const calls: number[] = []
for (const { kind, run } of scenarios) {
  failing.from(kind, 2 ** 52)
  await run(pipe)
  calls.push(Math.max(failing.stop().calls, 1))
}
const random = new Random(Number(seed))
const cases = Array.from({ length: Number(count) }, (_, id) => {
  const scenario = id % scenarios.length
  const nth = Math.floor(id / scenarios.length)
  const beginning = Math.min(calls[scenario], Number(count) / scenarios.length / 2)
  const call = nth < beginning ? nth + 1 : 1 + random.below(calls[scenario])
  return { id, scenario: scenarios[scenario], call }
})

const watch = new DelayWatch()
const held = [await heldBytes()]
for (const { id, scenario, call } of cases.slice(Number(first))) {
  report({ kind: 'case', id })
  const failed = (why: string) =>
    report({ kind: 'failure', text: `case ${id}, ${scenario.name}, call ${call} fails: ${why}` })
  watch.start()
  failing.from(scenario.kind, call)
  const outcome = await settled(scenario.run(pipe), 60_000)
  const { failed: happened } = failing.stop()
  watch.pause()
  if (!outcome) failed('has not settled')
  else if ('error' in outcome) {
    const { code } = outcome.error as { code?: string }
    if (code !== scenario.code) failed(`${String(outcome.error)} (code ${code})`)
    else if (!happened) failed('an error, but no call failed')
  }
  const again = await settled(draw(pipe), 60_000)
  if (!again || !('value' in again))
    failed(`afterwards ${again ? String(again.error) : 'nothing settles any more'}`)
  else if (again.value !== expected) failed('afterwards another picture')
  if (id % 200 === 199) {
    await pipe.dispose()
    pipe = await DiffusionPipeline.load()
    held.push(await heldBytes())
  }
}
held.push(await heldBytes())
const leaked = leakedBytes(held)
process.send!({ kind: 'end', leaked, delay: watch.delay } satisfies Report, () => process.exit(0))
