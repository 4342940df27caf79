/** Pictures with ControlLLLites compared with those that diffusers draws with their networks (tools/fixtures/control_lllite.py). */
import { join } from 'node:path'
import t from 'tap'
import { DiffusionPipeline, imageToTensor, quantizeModel, type ControlOptions } from '../../lib/index.js'
import { freshPath } from '../model-files/helpers.js'
import { readTensors, writeTensors, type StoredTensor } from '../model-files/stored-tensors.js'
import { endsWhenAborted, equalImages, largestDifference } from '../pipeline/support.js'
import { controlCases } from './control-cases.js'
import { base, fixtures as pictures, nets, root } from './control-models.js'
import { cosine, effectOf } from './effect.js'

const { fixtures, fileOf, load, optionsOf, named, testPictures } = controlCases('control-lllite')

testPictures()

t.test('every part of a control matters', async (t) => {
  await using pipe = await load('sd1', { controlNets: [fileOf('sd1'), nets('sd1')[0]] })
  const one = optionsOf(named('sd1', 'text'))
  const [control] = one.controls
  const draw = async (...controls: ControlOptions[]) =>
    (await pipe.generate({ ...one, controls })).images[0].data
  const plain = await draw(control)
  const none = await draw()
  t.ok(largestDifference(plain, none) > 10, 'the picture guides')
  t.strictSame(await draw({ ...control, scale: 0 }), none, 'a scale of 0 changes nothing')
  for (const change of [
    { scale: 0.5 },
    { end: 0.5 },
    { guess: true },
    { image: join(pictures, 'depth.png') },
  ])
    t.ok(largestDifference(await draw({ ...control, ...change }), plain) > 0, JSON.stringify(change))
  t.ok(largestDifference(await draw(control, { ...control, net: 1 }), plain) > 0, 'beside a ControlNet')
  t.strictSame(await draw(control), plain, 'nothing is left behind')
  for (const weights of ['soft' as const, [1]])
    await t.rejects(async () => draw({ ...control, weights }), {
      name: 'TypeError',
      message: 'Expected no controls[0].weights, as a ControlLLLite has no residuals',
    })
  await t.rejects(async () => draw({ ...control, mask: control.image }), {
    name: 'TypeError',
    message: 'Expected no controls[0].mask, as ControlLLLites and T2I-Adapters take none',
  })
})

t.test('pictures of a batch, odd sizes, token merging and DeepCache', async (t) => {
  await using pipe = await load('sd1')
  const tensors = await Promise.all(
    ['edges.png', 'depth.png'].map((name) => imageToTensor(join(pictures, name))),
  )
  const size = tensors[0].data.length
  const data = new Float32Array(2 * size)
  for (const [i, tensor] of tensors.entries()) data.set(tensor.data, i * size)
  const call = { prompt: 'noto pizza', steps: 3, width: 64, height: 64 }
  const batch = await pipe.generate({
    ...{ ...call, seed: 5, batchSize: 2 },
    controls: [{ image: { data, shape: [2, 3, 64, 64] } }],
  })
  for (const [i, image] of tensors.entries()) {
    const alone = await pipe.generate({ ...call, seed: 5 + i, controls: [{ image }] })
    t.ok(largestDifference(batch.images[i].data, alone.images[0].data) <= 1, `image ${i}`)
  }
  const image = join(pictures, 'edges.png')
  for (const more of [{ width: 72, height: 56 }, { tokenMerging: 0.5 }, { deepCache: true }]) {
    const options = { ...call, ...more, seed: 1 }
    const [drawn, plain] = [
      await pipe.generate({ ...options, controls: [{ image }] }),
      await pipe.generate(options),
    ]
    t.ok(largestDifference(drawn.images[0].data, plain.images[0].data) > 5, JSON.stringify(more))
  }
})

t.test('little memory and quantized models', async (t) => {
  const one = named('sdxl', 'text')
  await using low = await load('sdxl', { lowMemory: true })
  await equalImages(t, (await low.generate(optionsOf(one))).images, one, fixtures)
  const model = join(root, 'for-control-lllite.gguf')
  await quantizeModel(base.sd1, model, { type: 'q8_0' })
  const call = optionsOf(named('sd1', 'text'))
  await using exact = await load('sd1')
  await using pipe = await DiffusionPipeline.load(model, { controlNets: [fileOf('sd1')] })
  const similar = cosine(await effectOf(exact, call), await effectOf(pipe, call))
  t.ok(similar > 0.95, `cosine ${similar}`)
  const size = { width: 64, height: 64 }
  const [without, within] = [[], call.controls].map(
    (controls) => exact.memoryNeeded({ ...size, controls }).working,
  )
  t.ok(within > without, `${within} > ${without}`)
  t.ok(exact.controlNets[0].weightBytes > 0)
})

t.test('files that are alone, damaged, or made for another model', async (t) => {
  const file = fileOf('sd1')
  await t.rejects(DiffusionPipeline.load(file), {
    code: 'UNSUPPORTED_MODEL',
    message: /this is a ControlLLLite, .* one of controlNets/,
  })
  await t.rejects(load('sdxl', { controlNets: [file] }), {
    code: 'UNSUPPORTED_MODEL',
    message: /ControlLLLite/,
  })
  const tensors = [...readTensors(file)]
  const stem = 'lllite_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q'
  const written = (change: (name: string) => string | undefined) =>
    writeTensors(
      freshPath(t, '.safetensors'),
      tensors.flatMap(([name, tensor]) => {
        const changed = change(name)
        return changed === undefined ? [] : [[changed, tensor] as [string, StoredTensor]]
      }),
    )
  const without = (suffix: string) => written((name) => (name === `${stem}.${suffix}` ? undefined : name))
  for (const [suffix, code, message] of [
    ['up.0.weight', 'MODEL_FORMAT', /tensor 0\.queries\.up\.0\.weight .* is missing/],
    ['conditioning1.0.bias', 'MODEL_FORMAT', /is missing/],
    ['down.0.weight', 'UNSUPPORTED_MODEL', /belongs to a part/],
  ] as const)
    await t.rejects(load('sd1', { controlNets: [without(suffix)] }), { code, message }, suffix)
  const other = written((name) => name.replace('attn1_to_q', 'ff_net_0_proj'))
  await t.rejects(load('sd1', { controlNets: [other] }), {
    code: 'UNSUPPORTED_MODEL',
    message: /belongs to no projection of attentions in this model/,
  })
  // A file may leave networks out.
  const fewer = written((name) => (name.includes('attn1_to_k') ? undefined : name))
  await using pipe = await load('sd1', { controlNets: [fewer] })
  const call = optionsOf(named('sd1', 'text'))
  const { images } = await pipe.generate(call)
  t.ok(largestDifference(images[0].data, (await pipe.generate({ ...call, controls: [] })).images[0].data) > 0)
})

t.test('runs end at once when they are aborted', async (t) => {
  await using pipe = await load('sd1')
  const one = named('sd1', 'two')
  await endsWhenAborted(t, pipe, optionsOf(one), one, fixtures)
})
