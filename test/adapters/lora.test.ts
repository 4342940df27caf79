/** LoRA files of every kind, compared with diffusers and with weights merged by hand (tools/fixtures/adapters.py). */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import t from 'tap'
import { applyLora } from '../../lib/adapters/index.js'
import { DiffusionError, DiffusionPipeline, quantizeModel, type GenerateOptions } from '../../lib/index.js'
import { bundledModelPath } from '../../lib/pipeline/diffusion-pipeline.js'
import { openModel } from '../../lib/models/index.js'
import { packageRoot } from '../../lib/package-root.js'
import { Unet } from '../../lib/pipeline/unet.js'
import { fixtures as models, readTensors } from '../models/fixtures.js'
import { writeSafetensors } from '../model-files/helpers.js'
import { largestDifference } from '../pipeline/support.js'

const folder = join(packageRoot(), 'test', 'fixtures', 'adapters')
const { pictures, predictions } = JSON.parse(readFileSync(join(folder, 'cases.json'), 'utf8')) as {
  pictures: {
    name: string
    options: GenerateOptions
    loras: { path: string; scale: number }[]
    file: string
  }[]
  predictions: { name: string; file: string; tensors: string[] }[]
}
const golden = readTensors(join(folder, 'golden.safetensors'))

t.test('pictures equal those of diffusers', async (t) => {
  for (const { name, options, loras, file } of pictures) {
    const paths = loras.map(({ path, scale }) => ({ path: join(folder, path), scale }))
    await using pipe = await DiffusionPipeline.load(undefined, { precision: 'f32', loras: paths })
    const { images, warnings } = await pipe.generate({ ...options, weighting: false })
    const { data } = await sharp(join(folder, file)).removeAlpha().raw().toBuffer({ resolveWithObject: true })
    const worst = largestDifference(data, images[0].data)
    t.ok(worst <= 2, `${name}: differs by at most 2 of 255 levels (${worst})`)
    t.strictSame(warnings, [], `${name}: every tensor has a place`)
    t.equal(pipe.adapters.length, loras.length)
  }
})

async function predict(
  file: string,
  scale: number,
  options: { residency?: 'none'; precision?: 'int8' } = {},
) {
  const model = await openModel(join(models, 'sd1'))
  const report = await applyLora(model, { path: join(folder, file), scale })
  Object.assign(model.unet!.source, { precision: 'f32', ...options })
  await using unet = await Unet.load(model.unet!, { device: 'cpu' })
  const [latents, context] = ['latents', 'context'].map((key) => golden.get(key)!)
  const { data } = await unet.predict({
    latents: { data: latents.data as Float32Array, shape: latents.shape },
    timestep: 500,
    context: { data: context.data as Float32Array, shape: context.shape },
  })
  return { data, report, tensors: model.unet!.source.tensors.filter(({ adapters }) => adapters) }
}

t.test('predictions equal those of weights merged by hand', async (t) => {
  for (const { name, file, tensors } of predictions) {
    for (const scale of [1, -0.5]) {
      const { data, report, tensors: changed } = await predict(file, scale)
      const expected = golden.get(`${name}/${scale === 1 ? '1.0' : '-0.5'}`)!.data
      const size = Math.max(...expected.map(Math.abs))
      const worst = largestDifference(data, expected)
      t.ok(worst <= 1e-4 * size, `${name} × ${scale}: ${worst / size}`)
      t.strictSame(changed.map((tensor) => tensor.name).sort(), tensors, 'these tensors are changed')
      t.strictSame(report.unplaced, [])
      const streamed = await predict(file, scale, { residency: 'none' })
      t.strictSame(streamed.data, data, 'the same with streamed weights')
    }
  }
})

const temporary = () => {
  const path = mkdtempSync(join(tmpdir(), 'node-diffusion-lora-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}
const ATTENTION = 'down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k'

t.test('a file of which nothing can be applied is an error that says what it is', async (t) => {
  const model = await openModel(join(models, 'sd1'))
  const file = join(temporary(), 'x.safetensors')
  const apply = (tensors: Parameters<typeof writeSafetensors>[1], metadata?: Record<string, string>) => {
    writeSafetensors(file, tensors, metadata)
    return applyLora(model, { path: file, scale: 1 })
  }
  const pair = (stem: string, inputs: number, outputs: number) => ({
    [`${stem}.lora_down.weight`]: { shape: [4, inputs] },
    [`${stem}.lora_up.weight`]: { shape: [outputs, 4] },
  })
  const cases: [string, Parameters<typeof writeSafetensors>[1], RegExp][] = [
    ['Stable Diffusion XL', pair(`lora_unet_${ATTENTION}`, 2048, 640), /this LoRA is for Stable Diffusion XL, and the model is/],
    ['Stable Diffusion 2.x', pair(`lora_unet_${ATTENTION}`, 1024, 8), /is for Stable Diffusion 2\.x/],
    ['FLUX', pair('lora_unet_double_blocks_0_img_attn_qkv', 3072, 9216), /is for FLUX/],
    ['a checkpoint', { 'model.diffusion_model.out.0.weight': { shape: [8] } }, /this is not a LoRA/],
    ['an embedding', { emb_params: { shape: [2, 768] } }, /this is not a LoRA: it is a textual inversion embedding/],
    ['an IP-Adapter', { 'image_proj.proj.weight': { shape: [8, 8] }, 'ip_adapter.1.to_k_ip.weight': { shape: [8, 8] } }, /this is not a LoRA: it is an IP-Adapter/],
    ['an IP-Adapter with a LoRA', { 'image_proj.proj.0.weight': { shape: [8, 8] }, 'ip_adapter.0.to_q_lora.down.weight': { shape: [8, 8] }, 'ip_adapter.0.to_q_lora.up.weight': { shape: [8, 8] } }, /this is not a LoRA: it is an IP-Adapter/],
    ['half of a pair', { [`lora_unet_${ATTENTION}.lora_down.weight`]: { shape: [4, 20] } }, /other tensors are missing/],
    ['a rank of none', { ...pair(`lora_unet_${ATTENTION}`, 20, 8), [`lora_unet_${ATTENTION}.lora_down.weight`]: { shape: [0, 20] } }, /does not fit|rank is not/],
  ] // prettier-ignore
  for (const [name, tensors, message] of cases)
    await t.rejects(apply(tensors), { code: 'UNSUPPORTED_MODEL', message }, name)
  await t.rejects(applyLora(model, { path: join(temporary(), 'none.safetensors'), scale: 1 }), {
    code: 'MODEL_NOT_FOUND',
  })
  t.notOk(
    model.unet!.source.tensors.some(({ adapters }) => adapters),
    'a refused file changes nothing',
  )
})

t.test('tensors without a place are reported and warned about', async (t) => {
  const path = join(folder, 'kohya.safetensors')
  const more = join(temporary(), 'more.safetensors')
  // One layer that the model has, and one that it lacks; its name must not reach a terminal as it is.
  writeSafetensors(more, {
    'unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight': { shape: [2, 160] },
    'unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_B.weight': { shape: [160, 2] },
    'unet.mid_block.\u001b[31m.lora_A.weight': { shape: [2, 160] },
  })
  await using pipe = await DiffusionPipeline.load(undefined, { loras: [path, { path: more, scale: 0.5 }] })
  t.match(pipe.adapters[0], { path, kind: 'LoCon', scale: 1, ranks: [2], unplaced: [] })
  t.match(pipe.adapters[1], { kind: 'LoRA', scale: 0.5, applied: 2, unplaced: { length: 1 } })
  const { warnings, images } = await pipe.generate({ prompt: 'noto pizza', steps: 1, seed: 1 })
  t.match(warnings, [/^more\.safetensors: 1 of 3 tensors have no place in this model: .*\\u001b\[31m/])
  t.equal(images[0].metadata?.extra?.Loras, 'kohya: 1, more: 0.5')
})

t.test('loras of load() are checked', async (t) => {
  for (const [loras, type, message] of [
    ['a.safetensors', TypeError, /Expected array of paths for loras/],
    [[1], TypeError, /loras\[0\]/],
    [[{ path: 'x', weight: 1 }], TypeError, /Unknown option loras\[0\]\.weight/],
    [[{ path: 'x', scale: Infinity }], RangeError, /between -100 and 100 for loras\[0\]\.scale/],
    [Array(1), TypeError, /loras\[0\]/],
  ] as const)
    await t.rejects(DiffusionPipeline.load(undefined, { loras: loras as never }), {
      constructor: type,
      message,
    })
  t.ok(DiffusionError)
})

/** The change that a LoRA makes to a prediction. */
async function changeOf(model: string | undefined, precision: 'auto' | 'f32'): Promise<Float32Array> {
  const context = { data: new Float32Array(16 * 128).map((_, i) => Math.sin(i)), shape: [1, 16, 128] }
  const latents = {
    data: new Float32Array(4 * 16 * 16).map((_, i) => Math.cos(i * 1.7)),
    shape: [1, 4, 16, 16],
  }
  const predictions: Float32Array[] = []
  for (const loras of [[], [join(folder, 'peft.safetensors')]]) {
    await using pipe = await DiffusionPipeline.load(model, { loras, precision })
    predictions.push((await pipe.unet.predict({ latents, context, timestep: 500 })).data)
  }
  return predictions[1].map((x, i) => x - predictions[0][i])
}

function cosine(a: Float32Array, b: Float32Array): number {
  const dot = (x: Float32Array, y: Float32Array) => x.reduce((sum, value, i) => sum + value * y[i], 0)
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))
}

t.test('on quantized weights a LoRA keeps its direction', async (t) => {
  const base = temporary()
  const original = await changeOf(undefined, 'f32')
  for (const type of ['q8_0', 'q4_0'] as const) {
    const file = join(base, `${type}.gguf`)
    await quantizeModel(bundledModelPath(), file, { type })
    const [quantized, exact] = [await changeOf(file, 'auto'), await changeOf(file, 'f32')]
    t.ok(cosine(quantized, exact) >= 0.99, `${type}, beside float32 products: ${cosine(quantized, exact)}`)
    // The error of q4_0 weights themselves turns the change by more than the int8 products do.
    const bound = type === 'q8_0' ? 0.99 : 0.97
    t.ok(
      cosine(quantized, original) >= bound,
      `${type}, beside float32 weights: ${cosine(quantized, original)}`,
    )
  }
})
