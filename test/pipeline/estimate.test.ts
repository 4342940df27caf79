/** What a run takes, before anything is loaded. Tests do not measure time: that seconds are right is for bench/. */
import { join } from 'node:path'
import t from 'tap'
import {
  DiffusionPipeline,
  bundledModelPath,
  quantizeModel,
  type EstimateOptions,
  type LoadOptions,
} from '../../lib/index.js'
import { packageRoot } from '../../lib/package-root.js'
import { base, nets } from '../adapters/control-models.js'
import { freshPath } from '../model-files/helpers.js'

const fixtures = join(packageRoot(), 'test', 'fixtures')

t.test('memory is that of the loaded model', async (t) => {
  const quantized = freshPath(t, '.gguf')
  await quantizeModel(bundledModelPath(), quantized, { type: 'q4_0' })
  const cases: [path: string | undefined, load: LoadOptions, run: EstimateOptions][] = [
    [undefined, {}, {}],
    [undefined, { precision: 'f32', lowMemory: true }, { width: 128, height: 64, batchSize: 2 }],
    [undefined, { precision: 'bf16', lowMemory: false }, { guidanceScale: 1, vaeTiling: true }],
    [undefined, { precision: 'int8' }, { deepCache: true, tokenMerging: 0.5 }],
    [quantized, {}, {}],
    [quantized, { lowMemory: true }, { width: 256, height: 256 }],
    [base.sdxl, {}, { batchSize: 2 }],
    [
      base.sd1,
      { controlNets: nets('sd1') },
      { controls: [0, 1].map((net) => ({ net, image: join(fixtures, 'control', 'edges.png') })) },
    ],
    [
      base.sdxl,
      {
        controlNets: [
          join(fixtures, 'control-lora', 'sdxl.safetensors'),
          join(fixtures, 'control-union', 'net'),
        ],
      },
      {
        controls: [{}, { net: 1, type: 0 }, { net: 1, type: 1 }].map((one) => ({
          ...one,
          image: join(fixtures, 'control', 'edges.png'),
        })),
      },
    ],
    [
      base.sd1,
      { controlNets: [join(fixtures, 'control-lllite', 'sd1.safetensors')] },
      { controls: [{ image: join(fixtures, 'control', 'edges.png') }], batchSize: 2 },
    ],
    [undefined, { tinyVae: join(fixtures, 'tiny-vae', 'three-levels') }, { decoder: 'tiny' }],
  ]
  for (const [path, load, run] of cases) {
    const { memory, seconds } = await DiffusionPipeline.estimate(path, load, run)
    await using pipe = await DiffusionPipeline.load(path, { device: 'cpu', ...load })
    const what = JSON.stringify([load, run])
    t.same(memory, pipe.memoryNeeded(run), what)
    for (const [part, value] of Object.entries(seconds!))
      t.ok(value > 0 && Number.isFinite(value), `${part} ${what}`)
  }
})

t.test('adapters count', async (t) => {
  const lora = join(fixtures, 'adapters', 'kohya.safetensors')
  const plain = await DiffusionPipeline.estimate()
  const own = await DiffusionPipeline.estimate(undefined, {}, { loras: [lora] })
  t.ok(own.memory.weights > 1.5 * plain.memory.weights, 'a LoRA of the run is a second set of weights')
  const streamed = await DiffusionPipeline.estimate(undefined, { loras: [lora], lowMemory: true })
  const without = await DiffusionPipeline.estimate(undefined, { lowMemory: true })
  t.ok(
    streamed.memory.weights > without.memory.weights,
    'the factors of a LoRA stay where weights are streamed',
  )
})

t.test('the work of ControlNets is that of each prediction', async (t) => {
  const controls = [0, 1].map((net) => ({ net, image: join(fixtures, 'control', 'edges.png') }))
  const load = { controlNets: nets('sd1') }
  const without = await DiffusionPipeline.estimate(base.sd1, load, {})
  const one = await DiffusionPipeline.estimate(base.sd1, load, { controls: controls.slice(1) })
  const two = await DiffusionPipeline.estimate(base.sd1, load, { controls })
  t.ok(without.seconds.step < one.seconds.step)
  t.ok(one.seconds.step < two.seconds.step)
})

t.test('time adds up', async (t) => {
  const of = async (run: EstimateOptions) => (await DiffusionPipeline.estimate(undefined, {}, run)).seconds
  const [few, many] = [await of({ steps: 4 }), await of({ steps: 8 })]
  t.equal(many.step, few.step, 'measured once')
  t.equal(many.denoise, 2 * few.denoise)
  t.equal(few.total, few.text + few.denoise + few.decode)
  const second = await of({ steps: 4, scheduler: 'heun' })
  t.equal(second.denoise, 7 * second.step, 'all calls of the UNet count')
})

t.test('options', async (t) => {
  await t.rejects(DiffusionPipeline.estimate(undefined, { device: 'cuda' }), {
    code: 'DEVICE_UNAVAILABLE',
  })
  await t.rejects(DiffusionPipeline.estimate(undefined, {}, { prompt: 'x' } as never), { name: 'TypeError' })
  await t.rejects(DiffusionPipeline.estimate(7 as never), { name: 'TypeError' })
  await t.rejects(DiffusionPipeline.estimate('nothing.gguf'), { code: 'MODEL_NOT_FOUND' })
  const signal = AbortSignal.abort(new Error('enough'))
  await t.rejects(DiffusionPipeline.estimate(undefined, { signal }), { message: 'enough' })
})
