/**
 * Streamed weights, which are read whenever a layer needs them, give the same results as resident ones in every format.
 */
import { appendFileSync, copyFileSync, readFileSync, truncateSync, unlinkSync, utimesSync } from 'node:fs'
import { basename } from 'node:path'
import t from 'tap'
import { DiffusionPipeline, DiffusionError, quantizeModel } from '../../lib/index.js'
import { native, type ModelSource, type Residency } from '../../lib/native.js'
import { openModel } from '../../lib/models/index.js'
import { largestDifference, quick } from '../pipeline/support.js'
import { folder, relativeError } from '../quant/support.js'
import { compute } from './compute.js'
import { cases, unpackForms, type Case } from './fixtures.js'

const forms = unpackForms()
t.teardown(() => forms.remove())
t.teardown(() => native().setThreads(2))

/** Loads a component with this residency of its weights. */
async function load(
  path: string,
  component: Case['component'],
  residency: Residency,
  source: Partial<ModelSource> = {},
) {
  const { unet, vae, textEncoders } = await openModel(path)
  const more = { ...source, residency }
  if (component === 'unet') return native().loadUnet(unet!.config, { ...unet!.source, ...more })
  if (component === 'vae') return native().loadVae(vae!.config, { ...vae!.source, ...more })
  return native().loadTextEncoder(textEncoders[0].config, { ...textEncoders[0].source, ...more })
}

const formCases = cases.filter((c) => c.model === 'forms')
const files = (of: Case) =>
  of.component === 'unet'
    ? ['folder', 'sd1.safetensors', 'sd1-f32.gguf', 'sd1-f16.gguf']
    : ['folder', 'sd1.safetensors', 'sd1-f32.gguf', 'sd1-bf16.gguf']

t.test(
  'the same results and few weights in memory, in every format and with any number of threads',
  async (t) => {
    t.ok(formCases.length > 0)
    for (const of of formCases) {
      for (const file of files(of)) {
        native().setThreads(2)
        const resident = await load(forms.path(file), of.component, 'all')
        const expected = await compute(resident, of)
        for (const residency of ['per-step', 'none'] as const) {
          const model = await load(forms.path(file), of.component, residency)
          t.ok(model.weightBytes <= resident.weightBytes, `${file}: ${residency} keeps no more`)
          if (residency === 'none')
            t.ok(model.weightBytes < resident.weightBytes / 4, `${file}: keeps few weights`)
          for (const threads of [1, 2, 4]) {
            native().setThreads(threads)
            const found = await compute(model, of)
            t.equal(
              largestDifference(found, expected),
              0,
              `${file}: ${of.name}: ${residency}, ${threads} threads`,
            )
          }
          await model.dispose()
        }
        await resident.dispose()
      }
    }
  },
)

t.test(
  'quantized types, resident and streamed, are close to float32 with any number of threads',
  async (t) => {
    const { path } = folder(t)
    const [of] = formCases.filter((c) => c.component === 'unet')
    // The error of int8 arithmetic in a narrow model with random weights. A wrong order of the 4-bit values gives more
    // than 1.
    const bound = 0.05
    for (const type of ['q8_0', 'q5_0', 'q4_0', 'q4_1', 'q4_k'] as const) {
      const file = path(`${type}.gguf`)
      await quantizeModel(forms.path('folder'), file, { type, rules: `*=${type}` })
      const exact = await load(file, 'unet', 'all', { precision: 'f32' })
      const truth = (await compute(exact, of)) as Float32Array
      await exact.dispose()
      const results: Float32Array[] = []
      for (const residency of ['all', 'none'] as const) {
        const model = await load(file, 'unet', residency)
        native().setThreads(1)
        const found = (await compute(model, of)) as Float32Array
        const error = relativeError(found, truth)
        t.ok(error <= bound, `${type}, ${residency}: ${error} ≤ ${bound}`)
        for (const threads of [2, 4]) {
          native().setThreads(threads)
          t.equal(
            largestDifference(await compute(model, of), found),
            0,
            `${type}, ${residency}: ${threads} threads`,
          )
        }
        results.push(found)
        await model.dispose()
      }
      const apart = relativeError(results[1], results[0])
      t.ok(apart <= bound, `${type}: streamed and resident are ${apart} apart`)
    }
  },
)

t.test('a file that has changed after loading gives an error with its path, every time', async (t) => {
  const { path } = folder(t)
  const [of] = formCases.filter((c) => c.component === 'unet')
  const spoil: Record<string, (file: string) => void> = {
    'cut short': (file) => truncateSync(file, 1000),
    longer: (file) => appendFileSync(file, 'x'),
    touched: (file) => utimesSync(file, new Date(), new Date(Date.now() + 5000)),
  }
  for (const [name, change] of Object.entries(spoil)) {
    const file = path(`${name}.safetensors`)
    copyFileSync(forms.path('sd1.safetensors'), file)
    const model = await load(file, 'unet', 'none')
    await compute(model, of)
    change(file)
    for (let i = 0; i < 2; i++) {
      await t.rejects(
        compute(model, of),
        { code: 'IO', message: new RegExp(`${basename(file)}: it (was|has|had) `) },
        name,
      )
    }
    await model.dispose()
  }
  // A deleted file can be read as long as it is open.
  const file = path('deleted.safetensors')
  copyFileSync(forms.path('sd1.safetensors'), file)
  const model = await load(file, 'unet', 'none')
  const before = await compute(model, of)
  unlinkSync(file)
  t.equal(largestDifference(await compute(model, of), before), 0, 'deleted')
  await model.dispose()
})

t.test('lowMemory of pipelines', async (t) => {
  const { path } = folder(t)
  const file = path('q8_0.gguf')
  native().setThreads(2)
  const plain = await DiffusionPipeline.load()
  await quantizeModel(plain.model.path, file, { type: 'q8_0' })
  const expected = (await plain.generate(quick)).images[0]
  const weights = plain.memoryNeeded().weights
  await plain.dispose()

  await t.test('the same image in the memory that is reported', async (t) => {
    const low = await DiffusionPipeline.load(undefined, { lowMemory: true })
    t.equal(largestDifference((await low.generate(quick)).images[0].data, expected.data), 0)
    t.ok(low.memoryNeeded().weights < weights / 4, `${low.memoryNeeded().weights} of ${weights} bytes`)
    await low.dispose()
  })
  await t.test('a quantized model keeps its UNet, all weights, or none', async (t) => {
    const bytes = async (lowMemory?: boolean) => {
      const pipe = await DiffusionPipeline.load(file, { lowMemory })
      const { unet, vae, textEncoder } = pipe
      await pipe.dispose()
      return [unet.weightBytes, vae.weightBytes, textEncoder.weightBytes]
    }
    const [all, some, none] = [await bytes(false), await bytes(), await bytes(true)]
    t.ok(some[0] < all[0] && some[0] > all[0] / 2, `UNet: ${some[0]} of ${all[0]}`)
    t.ok(none[0] < all[0] / 4, `UNet: ${none[0]} of ${all[0]}`)
    for (const part of [1, 2]) {
      t.ok(some[part] < all[part] / 4, `${some[part]} of ${all[part]}`)
      t.equal(some[part], none[part])
    }
  })
  await t.test('a file that is truncated during a run', async (t) => {
    const copy = path('cut.gguf')
    copyFileSync(file, copy)
    const low = await DiffusionPipeline.load(copy, { lowMemory: true })
    const run = low.generate({
      ...quick,
      steps: 4,
      onStep: ({ step }) => step === 2 && truncateSync(copy, 5000),
    })
    await t.rejects(run, { code: 'IO', message: /cut\.gguf/ })
    const again = await low.generate(quick).catch((error: unknown) => error)
    t.ok(again instanceof DiffusionError)
    await low.dispose()
    t.equal(readFileSync(copy).length, 5000)
  })
  await t.test('dispose() during a run', async (t) => {
    const low = await DiffusionPipeline.load(file, { lowMemory: true })
    let disposing: Promise<void> | undefined
    const run = low.generate({ ...quick, steps: 4, onStep: () => void (disposing ??= low.dispose()) })
    await t.rejects(run, { code: 'DISPOSED' })
    await disposing
  })
})
