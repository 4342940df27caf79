/** Everything that the package exports is called with every value that cannot even be looked at, one at a time. */
import t from 'tap'
import * as api from '../../lib/index.js'
import { generateKeys, loadKeys } from '../../lib/options/index.js'
import { apiCalls, loadSubjects, places } from './api-calls.js'
import { hostile } from './hostile-values.js'
import { describe, objection } from './objection.js'

const subjects = await loadSubjects()
t.teardown(() => Promise.all(Object.values(subjects).map((subject) => subject.dispose())))

t.test('every export and every option has a call', (t) => {
  const described = Object.entries(apiCalls).map(
    ([name, { args, call }]) => `${name} ${String(call)} ${String(args)}`,
  )
  /** Constants, and functions without arguments. */
  const others = ['schedulerNames', 'rngNames', 'presets', 'wellKnownModels', 'DiffusionError', 'bundledModelPath', 'bundledVqModelPath'] // prettier-ignore
  const called = (name: string) => described.some((text) => new RegExp(`\\b${name}\\b`).test(text))
  const names = { TextEncoder: 'textEncoder', Unet: 'unet', VqModel: 'vq', Tokenizer: 'tokenizer' }
  for (const name of Object.keys(api))
    t.ok(others.includes(name) || called(names[name as keyof typeof names] ?? name), name)
  const given = (prefix: string) =>
    Object.entries(apiCalls)
      .filter(([name]) => name.startsWith(prefix))
      .flatMap(([, { args }]) => args(subjects).flatMap((value) => Object.keys(value as object)))
  for (const key of generateKeys) t.ok(given('generate ').includes(key), `generate: ${key}`)
  for (const key of loadKeys) t.ok(given('DiffusionPipeline.load').includes(key), `load: ${key}`)
  t.end()
})

const values = ['a revoked proxy', 'a revoked proxy of an array', 'a revoked proxy of a function'] as const
for (const [name, { args, call }] of Object.entries(apiCalls)) {
  t.test(name, async (t) => {
    const count = places(args(subjects), 4).length
    for (let i = 0; i < count; i++) {
      for (const value of values) {
        const given = args(subjects)
        const [holder, key] = places(given, 4)[i]
        holder[key] = hostile(value)
        try {
          await call(subjects, given as never[])
        } catch (error) {
          const why = objection(error)
          if (why) t.fail(`${String(key)}: ${value}: ${why}: ${describe(error)}`)
        }
      }
    }
    t.pass(`${count} places`)
  })
}

t.test('bytes are no object with options: listing the keys of 10 MB takes seconds', async (t) => {
  const bytes = new Uint8Array(10_000_000) as never
  const error = (name: string) => ({ name: 'TypeError', message: `Expected object for ${name} but received an instance of Uint8Array` }) // prettier-ignore
  t.throws(() => api.createScheduler('euler', 4, bytes), error('schedule'))
  await t.rejects(api.pullModel('hf:owner/name', bytes), error('options'))
  await t.rejects(subjects.pipe.generate(bytes), error('options'))
})
