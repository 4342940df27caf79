/** Deep features and merged tokens compared with diffusers, patched to do the same (tools/fixtures/acceleration.py). */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { native } from '../../lib/native.js'
import { difference, load } from './compute.js'
import { fixtures as models, readTensors } from './fixtures.js'

const TOLERANCE = 1e-4
const fixtures = join(models, '..', 'acceleration')
const golden = readTensors(join(fixtures, 'golden.safetensors'))
const cases: {
  model: string
  name: string
  depth?: number
  ratio?: number
  timestep: number
  laterTimestep: number
}[] = JSON.parse(readFileSync(join(fixtures, 'cases.json'), 'utf8'))

for (const model of new Set(cases.map((c) => c.model))) {
  t.test(model, async (t) => {
    const unet = await load(join(models, model, 'unet'), 'unet')
    t.teardown(() => unet.dispose())
    const floats = (key: string) => golden.get(`${model}/${key}`)! as { data: Float32Array; shape: number[] }
    const context = floats('context')
    const [n, , h, w] = floats('latents').shape
    const predict = (key: string, timestep: number, options: object) => {
      const timesteps = new Float32Array(n).fill(timestep)
      const conditioning = { timesteps, context: context.data, contextLength: context.shape[1] }
      return unet.predict({ latents: floats(key).data, n, h, w, conditioning, options })
    }
    for (const { name, depth, ratio, timestep, laterTimestep } of cases.filter((c) => c.model === model)) {
      for (const threads of [1, 3]) {
        native().setThreads(threads)
        let found: Float32Array
        if (depth === undefined) found = await predict('later', laterTimestep, { tokenMerging: ratio })
        else {
          const deep = new (native().DeepFeatures)()
          await predict('latents', timestep, { deep, depth, reuse: true })
          found = await predict('later', laterTimestep, { deep, depth, reuse: true })
        }
        const { error, scale, at } = difference(found, golden.get(name)!.data)
        t.ok(error <= TOLERANCE * scale, `${name}, ${threads} threads: ${error}`, { worstElement: at })
      }
    }
  })
}

t.test('options that the addon refuses', async (t) => {
  const unet = await load(join(models, 'sd1', 'unet'), 'unet')
  t.teardown(() => unet.dispose())
  const predict = async (options: unknown) =>
    unet.predict({
      latents: new Float32Array(4 * 4),
      n: 1,
      h: 2,
      w: 2,
      conditioning: { timesteps: new Float32Array(1), context: new Float32Array(20), contextLength: 1 },
      options: options as never,
    })
  const deep = new (native().DeepFeatures)()
  t.equal((await predict(null)).length, 16)
  t.equal((await predict({})).length, 16)
  const bad: [unknown, { name?: string; message: RegExp }][] = [
    [5, { name: 'TypeError', message: /options/ }],
    [{ tokenMerging: '1' }, { name: 'TypeError', message: /options\.tokenMerging/ }],
    [{ tokenMerging: NaN }, { name: 'RangeError', message: /options\.tokenMerging/ }],
    [{ tokenMerging: 0.8 }, { message: /tokenMerging/ }],
    [
      { deep: {}, depth: 1 },
      { name: 'TypeError', message: /DeepFeatures for call\.options\.deep/ },
    ],
    [
      { deep: new (native().CancelToken)(), depth: 1 },
      { name: 'TypeError', message: /DeepFeatures/ },
    ],
    [{ deep }, { message: /depth of at least 1/ }],
    [{ deep, depth: 12 }, { message: /depth of deep features of at most 11/ }],
    [
      { deep, depth: -1 },
      { name: 'RangeError', message: /options\.depth/ },
    ],
    [
      { deep, depth: 1, reuse: 1 },
      { name: 'TypeError', message: /options\.reuse/ },
    ],
  ]
  for (const [options, error] of bad) await t.rejects(predict(options), error)
  const { dispose } = deep
  t.throws(() => dispose.call({} as never), { name: 'TypeError' })
  await deep.dispose()
  t.equal((await predict({ deep, depth: 1, reuse: true })).length, 16, 'usable after dispose')
})
