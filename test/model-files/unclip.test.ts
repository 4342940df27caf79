/** What single files of unCLIP tell, and tensors that nothing uses. */
import type { ImageEncoderConfig, UnetConfig } from '../../lib/native.js'
import { openModel } from '../../lib/models/index.js'
import { freshPath, rejects, t, writeSafetensors } from './helpers.js'
import {
  openClip,
  originalUnetName,
  shapesOf,
  TINY_TEXT,
  TINY_UNET,
  TINY_VAE,
  tensorsOf,
  textShapes,
  unetShapes,
  vaeShapes,
  originalVae,
  type TestTensors,
} from './models.js'

const UNET: UnetConfig = {
  ...TINY_UNET,
  blockChannels: [64, 128],
  layersPerBlock: [2, 2],
  downTransformerDepth: [1, 0],
  upTransformerDepth: [1, 0],
  heads: [1, 2],
  contextWidth: 1024,
  classEmbedding: { kind: 'projection', width: 96 },
}
const ENCODER: ImageEncoderConfig = {
  imageSize: 28,
  patchSize: 14,
  channels: 3,
  width: 64,
  layers: 2,
  heads: 1,
  intermediate: 128,
  activation: 'quick_gelu',
  layerNormEps: 1e-5,
  projectionWidth: 48,
  projectionTransposed: true,
}

/** The image encoder's tensors as OpenAI and OpenCLIP name them. */
function visual(config: ImageEncoderConfig, prefix = 'embedder.model.visual.'): TestTensors {
  const renamed = [...shapesOf('imageEncoder', config)].map(([name, shape]): [string, number[]] => [
    name
      .replace('embeddings.patch_embedding', 'conv1')
      .replace('embeddings.position_embedding.weight', 'positional_embedding')
      .replace('embeddings.', '')
      .replace('pre_layrnorm', 'ln_pre')
      .replace('post_layernorm', 'ln_post')
      .replace('visual_projection.weight', 'proj'),
    shape,
  ])
  return openClip(new Map(renamed), prefix)
}

const text = {
  ...TINY_TEXT,
  width: 1024,
  heads: 16,
  intermediate: 256,
  layers: 24,
  activation: 'gelu',
} as const
const whole: TestTensors = {
  ...tensorsOf(unetShapes(UNET), (name) => `model.diffusion_model.${originalUnetName(name, UNET)}`),
  ...originalVae(vaeShapes(TINY_VAE), 3),
  ...openClip(textShapes(text)),
  ...visual(ENCODER),
  'noise_augmentor.betas': { shape: [1000] },
  'model_ema.decay': { shape: [] },
}

t.test("a checkpoint under Stability's names", async (t) => {
  const model = await openModel(writeSafetensors(freshPath(t, '.safetensors'), whole))
  t.equal(model.architecture, 'Stable Diffusion unCLIP')
  t.same(model.unet!.config, UNET)
  t.equal(model.schedule.predictionType, 'v_prediction')
  t.equal(model.assumedPrediction, undefined, 'which a test of the UNet without an image could not find out')
  t.equal(model.textEncoders.length, 1)
  t.same(model.unclip!.imageEncoder!.config, ENCODER)
  t.equal(model.unclip!.statistics, undefined, 'Stability keeps them in another file')
  t.match(model.unclip!.schedule, { betaSchedule: 'squaredcos_cap_v2', trainTimesteps: 1000 })
  t.equal(model.unused, undefined)
})

t.test('statistics in the file', async (t) => {
  const path = freshPath(t, '.safetensors')
  const data = (shape: number[]) => ({
    'noise_augmentor.data_mean': { shape },
    'noise_augmentor.data_std': { shape },
  })
  await rejects(
    t,
    openModel(writeSafetensors(path, { ...whole, ...data([1, 47]) })),
    'MODEL_SHAPE',
    /\[1,48\]/,
    'another width',
  )
  // The files of these tests hold zeros.
  await rejects(
    t,
    openModel(writeSafetensors(path, { ...whole, ...data([1, 48]) })),
    'MODEL_FORMAT',
    /tensor std: expected finite numbers above 0/,
    'no deviation',
  )
})

t.test('a UNet alone needs nothing more', async (t) => {
  const tensors = tensorsOf(unetShapes(UNET))
  const { unclip, unused } = await openModel(writeSafetensors(freshPath(t, '.safetensors'), tensors))
  t.ok(unclip)
  t.equal(unclip!.imageEncoder, undefined)
  t.equal(unused, undefined)
})

t.test('tensors that nothing uses are named', async (t) => {
  const stray = Object.fromEntries(
    ['lora_te_a', 'lora_te_b', 'some.\u001bthing', 'other'].map((name) => [name, { shape: [2, 2] }]),
  )
  const open = async (more: TestTensors) =>
    (await openModel(writeSafetensors(freshPath(t, '.safetensors'), { ...whole, ...more }))).unused
  t.same(await open(stray), [
    'The file has 4 tensors that the model does not use: "lora_te_a", "lora_te_b", "some.\\u001bthing", …',
  ])
  t.same(await open({ other: { shape: [1] } }), [
    'The file has a tensor that the model does not use: "other"',
  ])
  // Buffers of any type, averaged weights and the training's bookkeeping are expected.
  const expected: TestTensors = {
    'model_ema.diffusion_modelinput_blocks00weight': { shape: [4] },
    global_step: { shape: [], type: 'I64' },
    alphas_cumprod: { shape: [1000], type: 'F64' },
    'cond_stage_model.model.logit_scale': { shape: [] },
  }
  for (const type of ['I64', 'I32', 'F32', 'F16'])
    t.equal(
      await open({
        ...expected,
        'cond_stage_model.transformer.text_model.embeddings.position_ids': { shape: [1, 77], type },
      }),
      undefined,
      type,
    )
})
