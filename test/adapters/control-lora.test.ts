/** Pictures with control-LoRAs compared with those that diffusers draws with what they make (tools/fixtures/control_lora.py). */
import { join } from 'node:path'
import t from 'tap'
import { ControlNet, DiffusionPipeline, quantizeModel } from '../../lib/index.js'
import { freshPath } from '../model-files/helpers.js'
import { readTensors, writeTensors } from '../model-files/stored-tensors.js'
import { endsWhenAborted, equalImages, largestDifference } from '../pipeline/support.js'
import { controlCases } from './control-cases.js'
import { base, nets, root } from './control-models.js'
import { cosine, effectOf } from './effect.js'

const { fixtures, fileOf, load, optionsOf, named, testPictures } = controlCases('control-lora')

testPictures()

t.test('little memory, and another ControlNet beside it', async (t) => {
  const one = named('sdxl', 'text')
  await using low = await load('sdxl', { lowMemory: true })
  await equalImages(t, (await low.generate(optionsOf(one))).images, one, fixtures)
  await using both = await load('sdxl', { controlNets: [nets('sdxl')[0], fileOf('sdxl')] })
  const { controls } = optionsOf(one)
  const second = { ...optionsOf(one), controls: controls.map((control) => ({ ...control, net: 1 })) }
  await equalImages(t, (await both.generate(second)).images, one, fixtures)
  const [usual, made] = both.controlNets.map(({ weightBytes }) => weightBytes)
  t.ok(Math.abs(made / usual - 1) < 0.05, `it takes as much as a ControlNet: ${made} of ${usual} bytes`)
  const size = { width: 64, height: 64 }
  const [without, within] = [[], controls].map(
    (list) => both.memoryNeeded({ ...size, controls: list }).working,
  )
  t.ok(within > without)
})

t.test('quantized models', async (t) => {
  const model = join(root, 'for-control-lora.gguf')
  await quantizeModel(base.sd1, model, { type: 'q8_0' })
  const call = optionsOf(named('sd1', 'text'))
  await using exact = await load('sd1')
  await using pipe = await DiffusionPipeline.load(model, { controlNets: [fileOf('sd1')] })
  const similar = cosine(await effectOf(exact, call), await effectOf(pipe, call))
  t.ok(similar > 0.95, `cosine ${similar}`)
})

t.test('LoRAs of load() are a part of what is changed', async (t) => {
  const call = optionsOf(named('sd1', 'text'))
  await using plain = await load('sd1')
  const lora = freshPath(t, '.safetensors')
  const stem = 'lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q'
  const matrix = (shape: number[]) => {
    const data = new Float32Array(shape[0] * shape[1]).fill(0.3)
    return { dtype: 'F32', shape, bytes: Buffer.from(data.buffer) }
  }
  writeTensors(lora, [
    [`${stem}.lora_up.weight`, matrix([8, 1])],
    [`${stem}.lora_down.weight`, matrix([1, 8])],
  ])
  await using changed = await load('sd1', { loras: [lora] })
  // With a LoRA of one call, the ControlNet is the one of load().
  const { images } = await plain.generate({ ...call, loras: [lora] })
  t.ok(largestDifference((await changed.generate(call)).images[0].data, images[0].data) > 0)
})

t.test('files that are alone, damaged, or made for another model', async (t) => {
  const file = fileOf('sd1')
  const advice = { code: 'UNSUPPORTED_MODEL', message: /this is a control-LoRA, .* one of controlNets/ }
  await t.rejects(DiffusionPipeline.load(file), advice)
  await t.rejects(ControlNet.load(file), advice)
  await t.rejects(load('sdxl', { controlNets: [file] }), {
    code: 'UNSUPPORTED_MODEL',
    message: /sd1\.safetensors: this control-LoRA was made for another model: tensors /,
  })
  const tensors = readTensors(file)
  const without = (name: string) =>
    writeTensors(
      freshPath(t, '.safetensors'),
      [...tensors].filter(([other]) => other !== name),
    )
  for (const [name, message] of [
    ['input_blocks.0.0.down', /tensor "input_blocks\.0\.0\.down" is missing/],
    ['input_blocks.0.0.up', /tensor "input_blocks\.0\.0\.up" is missing/],
    ['zero_convs.0.0.weight', /tensor controlnet_down_blocks\.0\.weight of shape .* is missing/],
    ['input_hint_block.0.weight', /is missing/],
  ] as const)
    await t.rejects(load('sd1', { controlNets: [without(name)] }), { code: 'MODEL_FORMAT', message }, name)
  // What the file does not have is the model's.
  await using pipe = await load('sd1', { controlNets: [without('input_blocks.1.0.in_layers.0.bias')] })
  t.equal(pipe.controlNets.length, 1)
  const stray = writeTensors(freshPath(t, '.safetensors'), [
    ...tensors,
    ['output_blocks.0.0.up', tensors.get('input_blocks.0.0.up')!],
    ['output_blocks.0.0.down', tensors.get('input_blocks.0.0.down')!],
  ])
  await t.rejects(load('sd1', { controlNets: [stray] }), {
    code: 'UNSUPPORTED_MODEL',
    message: /tensor "output_blocks\.0\.0\.up" belongs to a part/,
  })
})

t.test('runs end at once when they are aborted', async (t) => {
  await using pipe = await load('sd1')
  const one = named('sd1', 'text')
  await endsWhenAborted(t, pipe, optionsOf(one), one, fixtures)
})
