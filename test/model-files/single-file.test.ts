import { join } from 'node:path'
import type { Test } from 'tap'
import { componentSummary, openModel } from '../../lib/models/index.js'
import type { ModelSource, TextEncoderConfig, UnetConfig } from '../../lib/native.js'
import { packageRoot } from '../../lib/package-root.js'
import {
  freshPath,
  rejects,
  safetensorsBytes,
  safetensorsHeader,
  stringPair,
  t,
  writeGguf,
  writeSafetensors,
  writeSparse,
} from './helpers.js'
import {
  openClip,
  originalUnetName,
  originalVae,
  type Shapes,
  tensorsOf,
  type TestTensors,
  textShapes,
  TINY_TEXT,
  TINY_UNET,
  TINY_VAE,
  unetShapes,
  vaeShapes,
  withConvolutions,
} from './models.js'
import { torchFile } from './pickles.js'

const originalUnet = (config: UnetConfig, prefix = 'model.diffusion_model.', shapes = unetShapes(config)) =>
  tensorsOf(shapes, (name) => prefix + originalUnetName(name, config))
const shapes = (source: ModelSource) => new Map(source.tensors.map(({ name, shape }) => [name, shape]))

function sameShapes(t: Test, source: ModelSource | undefined, layout: Shapes, name: string) {
  t.same(source && shapes(source), layout, name)
}

// The published widths with fewer layers. The files are sparse.
// prettier-ignore
const SD1: UnetConfig = { ...TINY_UNET, blockChannels: [320, 640], layersPerBlock: [2, 2], downTransformerDepth: [1, 0], upTransformerDepth: [1, 0], heads: [8, 8], contextWidth: 768 }
const SD2: UnetConfig = { ...SD1, heads: [5, 10], contextWidth: 1024 }
const OPEN_CLIP_TEXT: TextEncoderConfig = {
  ...TINY_TEXT,
  width: 1024,
  heads: 16,
  intermediate: 256,
  layers: 24,
  activation: 'gelu',
}

t.test('a Stable Diffusion 1 checkpoint', async (t) => {
  const text: TextEncoderConfig = { ...TINY_TEXT, width: 768, heads: 12 }
  for (const prefix of ['cond_stage_model.transformer.text_model.', 'cond_stage_model.transformer.']) {
    const tensors: TestTensors = {
      ...originalUnet(SD1, undefined, withConvolutions(unetShapes(SD1))),
      ...originalVae(vaeShapes(TINY_VAE), 3),
      ...tensorsOf(textShapes(text), (name) => prefix + name),
      'cond_stage_model.transformer.text_model.embeddings.position_ids': { shape: [1, 77], type: 'I64' },
      'model_ema.decay': { shape: [], type: 'F32' },
      'first_stage_model.loss.logvar': { shape: [] },
      betas: { shape: [1000], type: 'F64' },
    }
    const model = await openModel(writeSafetensors(freshPath(t, '.safetensors'), tensors))
    t.equal(model.architecture, 'Stable Diffusion 1.x')
    t.equal(model.format, 'safetensors')
    t.same(model.unet!.config, SD1)
    t.same(model.vae!.config, TINY_VAE)
    t.same(model.textEncoders[0].config, text)
    t.equal(model.textEncoders[0].skip, 0)
    t.equal(model.vae!.scalingFactor, 0.18215)
    t.equal(model.imageSize, 256, '64 latents, three levels of the autoencoder')
    t.equal(model.textEncoders[0].tokenizer, null)
    t.match(model.schedule, {
      predictionType: 'epsilon',
      betaSchedule: 'scaled_linear',
      betaStart: 0.00085,
      betaEnd: 0.012,
      stepsOffset: 1,
    })
    sameShapes(t, model.unet!.source, unetShapes(SD1), 'unet')
    sameShapes(t, model.vae!.source, vaeShapes(TINY_VAE), 'vae')
    sameShapes(t, model.textEncoders[0].source, textShapes(text), 'text encoder')
  }
})

t.test('a Stable Diffusion 2 checkpoint', async (t) => {
  const path = freshPath(t, '.safetensors')
  const clip = openClip(textShapes(OPEN_CLIP_TEXT))
  const extra = {
    'cond_stage_model.model.text_projection': { shape: [1024, 1024] },
    'cond_stage_model.model.logit_scale': { shape: [] },
  }
  writeSafetensors(path, { ...originalUnet(SD2), ...clip, ...extra })
  const model = await openModel(path)
  t.equal(model.architecture, 'Stable Diffusion 2.x')
  t.same(model.unet!.config, SD2)
  t.same(model.textEncoders[0].config, OPEN_CLIP_TEXT)
  t.equal(model.textEncoders[0].skip, 1)
  t.equal(model.vae, undefined)
  t.same(model.textEncoders[0].tokenizer, { maxLength: 16, padToken: '!' })
  t.equal(model.schedule.predictionType, 'v_prediction')
  t.equal(model.imageSize, 768)
  sameShapes(t, model.unet!.source, unetShapes(SD2), 'unet')
  sameShapes(t, model.textEncoders[0].source, textShapes(OPEN_CLIP_TEXT), 'text encoder')

  const table = new Map(model.textEncoders[0].source.tensors.map((tensor) => [tensor.name, tensor]))
  const [q, k, v] = ['q', 'k', 'v'].map((part) =>
    table.get(`encoder.layers.1.self_attn.${part}_proj.weight`)!,
  )
  t.equal(q.bytes, 1024 * 1024 * 2)
  t.equal(k.offset, q.offset + q.bytes)
  t.equal(v.offset, k.offset + k.bytes)
})

t.test('other topologies', async (t) => {
  // prettier-ignore
  const configs: Record<string, UnetConfig> = {
    tiny: TINY_UNET,
    inpainting: { ...TINY_UNET, inChannels: 9 },
    'one level': { ...TINY_UNET, blockChannels: [64], layersPerBlock: [1], downTransformerDepth: [1], upTransformerDepth: [1], heads: [8] },
    'layers differ': { ...TINY_UNET, layersPerBlock: [1, 3, 2] },
    'no attention at the top': { ...TINY_UNET, downTransformerDepth: [0, 1, 1], upTransformerDepth: [0, 1, 3], midTransformerDepth: 2 },
    'no middle block': { ...TINY_UNET, midTransformerDepth: -1 },
  }
  for (const [name, config] of Object.entries(configs)) {
    const original = tensorsOf(unetShapes(config), (tensor) => originalUnetName(tensor, config))
    const spellings = {
      original,
      prefixed: originalUnet(config),
      diffusers: tensorsOf(unetShapes(config)),
      'projections as convolutions': tensorsOf(withConvolutions(unetShapes(config))),
      own: tensorsOf(unetShapes(config), (n) => `unet.${n}`),
    }
    for (const [spelling, tensors] of Object.entries(spellings)) {
      const { unet, vae, textEncoders } = await openModel(
        writeSafetensors(freshPath(t, '.safetensors'), tensors),
      )
      t.same(unet!.config, config, `${name}, ${spelling}: configuration`)
      sameShapes(t, unet!.source, unetShapes(config), `${name}, ${spelling}: tensors`)
      t.same([vae, textEncoders], [undefined, []])
    }
  }
})

t.test('single autoencoders and text encoders', async (t) => {
  const layout = vaeShapes(TINY_VAE)
  const old = (name: string) =>
    name
      .replace('to_out.0', 'proj_attn')
      .replace('to_q', 'query')
      .replace('to_k', 'key')
      .replace('to_v', 'value')
  const spellings = {
    diffusers: tensorsOf(layout),
    'old diffusers': tensorsOf(layout, old),
    original: originalVae(layout, 3, ''),
    'with a discriminator': {
      ...originalVae(layout, 3, ''),
      'loss.discriminator.main.0.weight': { shape: [64, 3, 4, 4] },
    },
  }
  for (const [spelling, tensors] of Object.entries(spellings)) {
    const { vae, architecture, imageSize } = await openModel(
      writeSafetensors(freshPath(t, '.safetensors'), tensors),
    )
    t.same(vae!.config, TINY_VAE, spelling)
    t.same([architecture, imageSize], ['KL autoencoder', 256])
    sameShapes(t, vae!.source, layout, spelling)
  }
  const quantized = { ...TINY_VAE, latentChannels: 3, codebook: { size: 48, width: 5 }, midAttention: false }
  const vq = await openModel(
    writeSafetensors(freshPath(t, '.safetensors'), originalVae(vaeShapes(quantized), 3, '')),
  )
  t.same(vq.vae!.config, quantized)
  t.equal(vq.architecture, 'VQ autoencoder')

  const text = textShapes(TINY_TEXT)
  for (const tensors of [
    tensorsOf(text),
    tensorsOf(text, (name) => `text_model.${name}`),
    openClip(text, ''),
  ]) {
    const { textEncoders } = await openModel(writeSafetensors(freshPath(t, '.safetensors'), tensors))
    sameShapes(t, textEncoders[0].source, text, 'text encoder')
  }
})

t.test('the prediction type of a UNet', async (t) => {
  const marks: [string, TestTensors, Record<string, string>, object][] = [
    [
      'v_pred',
      { v_pred: { shape: [0] } },
      {},
      { predictionType: 'v_prediction', rescaleBetasZeroSnr: false },
    ],
    [
      'ztsnr',
      { v_pred: { shape: [0] }, ztsnr: { shape: [0] } },
      {},
      { predictionType: 'v_prediction', rescaleBetasZeroSnr: true },
    ],
    ['modelspec v', {}, { 'modelspec.prediction_type': 'v' }, { predictionType: 'v_prediction' }],
    [
      'modelspec epsilon',
      { v_pred: { shape: [0] } },
      { 'modelspec.prediction_type': 'epsilon' },
      { predictionType: 'epsilon' },
    ],
    [
      "kohya's marks",
      {},
      { ss_v_parameterization: 'True', ss_zero_terminal_snr: 'True' },
      { predictionType: 'v_prediction', rescaleBetasZeroSnr: true, timestepSpacing: 'trailing' },
    ],
    [
      "kohya's marks of other models",
      {},
      { ss_v_parameterization: 'False', ss_zero_terminal_snr: 'False' },
      { predictionType: 'epsilon', rescaleBetasZeroSnr: false },
    ],
    ['a title', {}, { 'modelspec.title': 'Mix V-Pred 2' }, { predictionType: 'v_prediction' }],
    ['a title', {}, { 'modelspec.title': 'mix_vpred' }, { predictionType: 'v_prediction' }],
    ['a title', {}, { 'modelspec.title': 'Mix ztsnr' }, { rescaleBetasZeroSnr: true }],
    ['another title', {}, { 'modelspec.title': 'Rev Predator' }, { predictionType: 'epsilon' }],
    ['nothing', {}, {}, { predictionType: 'epsilon' }],
  ]
  for (const [name, extra, metadata, expected] of marks) {
    const model = await openModel(
      writeSafetensors(freshPath(t, '.safetensors'), { ...originalUnet(TINY_UNET), ...extra }, metadata),
    )
    t.match(model.schedule, expected, name)
  }
  // prettier-ignore
  for (const [step, expected, size] of [[875_000, 'epsilon', 512], [140_000, 'v_prediction', 768]] as const) {
    const { header, dataBytes } = safetensorsHeader({ global_step: { shape: [], type: 'I64' }, ...originalUnet(SD2) })
    const value = Buffer.alloc(8)
    value.writeBigInt64LE(BigInt(step))
    const path = writeSparse(freshPath(t, '.safetensors'), Buffer.concat([safetensorsBytes(header), value]), dataBytes - 8)
    const model = await openModel(path)
    t.equal(model.schedule.predictionType, expected, `global_step ${step}`)
    t.equal(model.imageSize, size)
  }
  const inpainting = await openModel(
    writeSafetensors(freshPath(t, '.safetensors'), originalUnet({ ...SD2, inChannels: 9 })),
  )
  t.match(inpainting, {
    architecture: 'Stable Diffusion 2.x (inpainting)',
    imageSize: 512,
    schedule: { predictionType: 'epsilon' },
  })
  const sized = await openModel(
    writeSafetensors(freshPath(t, '.safetensors'), originalUnet(TINY_UNET), {
      'modelspec.resolution': '640x768',
    }),
  )
  t.equal(sized.imageSize, 768)
})

t.test('incomplete, unknown and contradictory tensors', async (t) => {
  const unet = originalUnet(TINY_UNET)
  const without = (name: string) => Object.fromEntries(Object.entries(unet).filter(([key]) => key !== name))
  const prefix = 'model.diffusion_model.'
  const reshape = (name: string, shape: number[]): TestTensors => ({ ...unet, [prefix + name]: { shape } })
  // prettier-ignore
  const cases: [string, TestTensors, 'MODEL_FORMAT' | 'MODEL_SHAPE' | 'UNSUPPORTED_MODEL', RegExp][] = [
    ['nothing', {}, 'MODEL_FORMAT', /expected the tensors of a UNet.*found no tensors/],
    ['strangers', { foo: { shape: [1] }, bar: { shape: [1] } }, 'MODEL_FORMAT', /found 2 tensors, the first ones "foo", "bar"/],
    ['a bias missing', without(`${prefix}out.2.bias`), 'MODEL_FORMAT', /tensor conv_out.bias of shape \[4\] is missing/],
    ['a weight missing', without(`${prefix}input_blocks.1.0.out_layers.3.weight`), 'MODEL_FORMAT', /down_blocks.0.resnets.0.conv2.weight of shape \[32,32,3,3\] is missing/],
    ['a time embedding missing', without(`${prefix}time_embed.0.weight`), 'MODEL_FORMAT', /time_embedding.linear_1.weight/],
    ['another shape', reshape('out.0.bias', [31]), 'MODEL_SHAPE', /tensor conv_norm_out.bias \(stored as "model.diffusion_model.out.0.bias"\): expected shape \[32\], found \[31\]/],
    ['a kernel of 5', reshape('out.2.weight', [4, 32, 5, 5]), 'MODEL_SHAPE', /conv_out.weight.*expected shape \[4,32,3,3\], found \[4,32,5,5\]/],
    ['five dimensions', reshape('input_blocks.0.0.weight', [32, 4, 3, 3, 2]), 'MODEL_FORMAT', /expected 4 dimensions/],
    ['scale-shift normalization', reshape('input_blocks.1.0.emb_layers.1.weight', [64, 128]), 'MODEL_SHAPE', /time_emb_proj/],
    ['an integer weight', { ...unet, [`${prefix}out.0.bias`]: { shape: [32], type: 'I32' } }, 'UNSUPPORTED_MODEL', /conv_norm_out.bias.*found i32/],
    ['an 8-bit float weight', { ...unet, [`${prefix}out.0.bias`]: { shape: [32], type: 'F8_E4M3FNUZ' } }, 'UNSUPPORTED_MODEL', /found f8_e4m3fnuz/],
    ['an unknown part', { ...unet, [`${prefix}extra.weight`]: { shape: [1] } }, 'UNSUPPORTED_MODEL', /"model.diffusion_model.extra.weight" belongs to a part that node-diffusion does not support/],
    ['two spellings of one tensor', { ...unet, [`${prefix}conv_in.weight`]: { shape: [32, 4, 3, 3] } }, 'MODEL_FORMAT', /are both conv_in.weight/],
    ['a decoder without encoder', tensorsOf(new Map([...vaeShapes(TINY_VAE)].filter(([name]) => name.startsWith('decoder')))), 'MODEL_FORMAT', /encoder.down_blocks.0.* is missing/],
    ['attention inside a level', { ...originalVae(vaeShapes(TINY_VAE), 3, ''), 'encoder.down.1.attn.0.q.weight': { shape: [64, 64, 1, 1] } }, 'UNSUPPORTED_MODEL', /encoder.down.1.attn.0.q.weight/],
    ['groups that cannot be known', tensorsOf(vaeShapes({ ...TINY_VAE, blockChannels: [48, 64], normGroups: 16 })), 'UNSUPPORTED_MODEL', /number of normalization groups of \[48,64\] channels is unknown/],
    ['a width without heads', tensorsOf(textShapes({ ...TINY_TEXT, width: 96 })), 'UNSUPPORTED_MODEL', /attention heads of a width of 96/],
    ['16 latent channels', tensorsOf(vaeShapes({ ...TINY_VAE, latentChannels: 16, quantConv: false, postQuantConv: false })), 'UNSUPPORTED_MODEL', /Stable Diffusion 3 or Flux/],
    ['fused attention of odd rows', { ...openClip(textShapes(TINY_TEXT)), 'cond_stage_model.model.transformer.resblocks.0.attn.in_proj_bias': { shape: [190] } }, 'MODEL_FORMAT', /expected fused query, key and value, found f16 of shape \[190\]/],
  ]
  for (const [name, tensors, code, message] of cases) {
    await rejects(t, openModel(writeSafetensors(freshPath(t, '.safetensors'), tensors)), code, message, name)
  }
})

t.test('models of other families are named', async (t) => {
  const cases: [string, RegExp][] = [
    ['model.diffusion_model.joint_blocks.0.context_block.adaLN_modulation.1.bias', /Stable Diffusion 3/],
    ['double_blocks.0.img_attn.norm.key_norm.scale', /Flux/],
    ['lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight', /a LoRA/],
    [
      'lllite_unet_input_blocks_4_1_attn1.down.0.weight',
      /a ControlLLLite, .* give it to load\(\) as one of controlNets/,
    ],
    ['lora_controlnet', /a control-LoRA, .* give it to load\(\) as one of controlNets/],
    ['difference', /a ControlNet that is stored as its difference/],
    ['down_blocks.0.motion_modules.0.temporal_transformer.norm.bias', /AnimateDiff/],
    ['encoder.block.0.layer.0.SelfAttention.q.weight', /T5/],
    ['cond_stage_model.transformer.token_emb.weight', /BERT/],
    ['emb_params', /textual inversion/],
    ['model.layers.0.self_attn.q_proj.weight', /a language model/],
    [
      'unet.up_blocks.0.attentions.0.proj_in.lora.up.weight',
      /a LoRA, .*: give it to load\(\) as one of loras/,
    ],
    [
      'body.0.resnets.0.block1.weight',
      /a T2I-Adapter, which guides a model and is not one itself: give it to load\(\) as one of controlNets/,
    ],
    ['image_proj.proj.weight', /an IP-Adapter/],
    ['conv_first.weight', /an upscaler of images/],
  ]
  for (const [name, message] of cases) {
    const path = writeSafetensors(freshPath(t, '.safetensors'), { [name]: { shape: [2] } })
    await rejects(t, openModel(path), 'UNSUPPORTED_MODEL', message, name)
  }
  const pickled = writeSparse(freshPath(t, '.pt'), torchFile({ '<my-cat>': { shape: [2, 768] } }))
  await rejects(
    t,
    openModel(pickled),
    'UNSUPPORTED_MODEL',
    /textual inversion embedding.*"<my-cat>"/,
    'learned_embeds.bin',
  )
  const embedding = join(packageRoot(), 'test', 'fixtures', 'pickles', 'embedding.pt')
  await rejects(
    t,
    openModel(embedding),
    'UNSUPPORTED_MODEL',
    /textual inversion embedding/,
    'as the web UI writes it',
  )
  for (const [architecture, message] of [
    ['flux', /this is Flux: .*general.architecture "flux"/],
    ['t5encoder', /a T5 text encoder/],
  ] as const) {
    const path = freshPath(t, '.gguf')
    writeGguf(path, { x: { shape: [2] } }, { pairs: [stringPair('general.architecture', architecture)] })
    await rejects(t, openModel(path), 'UNSUPPORTED_MODEL', message, architecture)
  }
  const net = tensorsOf(unetShapes(TINY_UNET))
  const path = writeSafetensors(freshPath(t, '.safetensors'), {
    ...net,
    'controlnet_cond_embedding.conv_in.weight': { shape: [16, 3, 3, 3] },
  })
  await rejects(
    t,
    openModel(path),
    'MODEL_FORMAT',
    /tensor controlnet_cond_embedding.conv_in.bias .* is missing/,
    'no residuals',
  )
  const part = writeSafetensors(freshPath(t, '.safetensors'), {
    'control_model.time_embed.0.weight': { shape: [2] },
  })
  await rejects(
    t,
    openModel(part),
    'MODEL_FORMAT',
    /tensor controlnet_cond_embedding.conv_in.weight is missing/,
    'a part',
  )
})

t.test('tensors of other families that were left in a whole model', async (t) => {
  const path = writeSafetensors(freshPath(t, '.safetensors'), {
    ...originalUnet(TINY_UNET),
    'lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight': { shape: [4, 64] },
    'control_model.time_embed.0.weight': { shape: [4, 4] },
    emb_params: { shape: [1, 64] },
  })
  t.same((await openModel(path)).unet!.config, TINY_UNET)
})

// prettier-ignore
const SDXL: UnetConfig = { ...TINY_UNET, blockChannels: [64, 128], layersPerBlock: [2, 2], downTransformerDepth: [0, 2], upTransformerDepth: [0, 2], midTransformerDepth: 2, heads: [1, 2], contextWidth: 2048, added: { width: 2816, timeWidth: 256 } }
const CLIP_L: TextEncoderConfig = { ...TINY_TEXT, width: 768, heads: 12 }
// prettier-ignore
const BIG_G: TextEncoderConfig = { ...TINY_TEXT, width: 1280, heads: 20, layers: 3, activation: 'gelu', projectionWidth: 1280 }

t.test('a Stable Diffusion XL checkpoint', async (t) => {
  const clip = tensorsOf(
    textShapes(CLIP_L),
    (name) => `conditioner.embedders.0.transformer.text_model.${name}`,
  )
  const extra: TestTensors = {
    'conditioner.embedders.0.transformer.text_model.embeddings.position_ids': { shape: [1, 77], type: 'I64' },
    'conditioner.embedders.0.transformer.text_projection.weight': { shape: [768, 768] },
    'conditioner.embedders.1.model.logit_scale': { shape: [] },
  }
  const transposed: TextEncoderConfig = { ...BIG_G, projectionTransposed: true }
  const model = await openModel(
    writeSafetensors(freshPath(t, '.safetensors'), {
      ...originalUnet(SDXL),
      ...originalVae(vaeShapes(TINY_VAE), 3),
      ...clip,
      ...openClip(textShapes(transposed), 'conditioner.embedders.1.model.'),
      ...extra,
    }),
  )
  t.equal(model.architecture, 'Stable Diffusion XL')
  t.same(model.unet!.config, SDXL)
  t.same(
    model.textEncoders.map(({ config }) => config),
    [CLIP_L, transposed],
  )
  t.match(model.textEncoders, [
    { skip: 1, finalNorm: false, tokenizer: null },
    { skip: 1, finalNorm: false, tokenizer: { padToken: '!' } },
  ])
  t.equal(model.vae!.scalingFactor, 0.13025)
  t.equal(model.imageSize, 512, '128 latents, three levels of the autoencoder')
  t.match(model.schedule, { className: 'EulerDiscreteScheduler', timestepSpacing: 'leading' })

  const refiner = await openModel(
    writeSafetensors(freshPath(t, '.safetensors'), {
      ...originalUnet({ ...SDXL, contextWidth: 1280, added: { width: 2560, timeWidth: 256 } }),
      ...openClip(textShapes(transposed), 'conditioner.embedders.0.model.'),
    }),
  )
  t.equal(refiner.architecture, 'Stable Diffusion XL refiner')
  t.same(
    refiner.textEncoders.map(({ config }) => config),
    [transposed],
  )
})

t.test("a Stable Diffusion 2 checkpoint with the names of Stability's later code", async (t) => {
  const model = await openModel(
    writeSafetensors(freshPath(t, '.safetensors'), {
      ...originalUnet(SD2),
      ...openClip(textShapes(OPEN_CLIP_TEXT), 'conditioner.embedders.0.model.'),
      'conditioner.embedders.0.model.text_projection': { shape: [1024, 1024] },
      'cond_stage_model.model.transformer.text_model.embeddings.position_ids': {
        shape: [1, 77],
        type: 'I64',
      },
    }),
  )
  t.equal(model.architecture, 'Stable Diffusion 2.x')
  t.equal(model.textEncoders.length, 1)
  t.same(model.textEncoders[0].config, OPEN_CLIP_TEXT)
  t.equal(model.textEncoders[0].skip, 1)
  t.equal(model.schedule.predictionType, 'epsilon', 'sd_turbo, the only such file, predicts the noise')
})

t.test('the ×4 upscaler: what its files do not say', async (t) => {
  const config: UnetConfig = {
    ...SD2,
    inChannels: 7,
    classEmbedding: { kind: 'table', count: 1000 },
    heads: SD2.heads.map(() => 8),
    onlyCrossAttention: SD2.heads.map(() => 1),
  }
  const model = await openModel(
    writeSafetensors(freshPath(t, '.safetensors'), {
      ...originalUnet(config),
      ...originalVae(vaeShapes(TINY_VAE), 3),
      ...openClip(textShapes(OPEN_CLIP_TEXT), 'cond_stage_model.model.'),
      'low_scale_model.betas': { shape: [1000] },
    }),
  )
  t.equal(model.architecture, 'Stable Diffusion ×4 upscaler')
  t.match(model.unet!.config, { inChannels: 7, heads: [8, 8], classEmbedding: config.classEmbedding })
  t.equal(model.vae!.scalingFactor, 0.08333)
  t.equal(model.imageSize, 512, '128 latents, three levels of the autoencoder')
  t.match(model.schedule, { predictionType: 'v_prediction', betaStart: 0.0001, betaEnd: 0.02 })
})

t.test('the ×2 latent upscaler: what its tensors tell, and what is assumed', async (t) => {
  const config: UnetConfig = {
    ...SD1,
    inChannels: 8,
    outChannels: 5,
    blockChannels: [64, 64],
    downTransformerDepth: [0, 1],
    upTransformerDepth: [0, 1],
    midTransformerDepth: -1,
    heads: [1, 1],
    normGroups: 1,
    kBlocks: { headWidth: 64, groupWidth: 32, timeWidth: 64, conditionWidth: 128 + SD1.contextWidth },
  }
  const tensors = tensorsOf(unetShapes(config), (name) => name)
  const model = await openModel(writeSafetensors(freshPath(t, '.safetensors'), tensors))
  t.equal(model.architecture, 'Stable Diffusion ×2 latent upscaler')
  t.same(model.unet!.config, config)
  t.match(model.schedule, {
    predictionType: 'sample',
    betaStart: 0.00085,
    className: 'EulerDiscreteScheduler',
  })
  t.equal(model.imageSize, 1024)
  delete tensors['up_blocks.1.resnets.0.norm1.linear.bias']
  await t.rejects(openModel(writeSafetensors(freshPath(t, '.safetensors'), tensors)), {
    code: 'MODEL_FORMAT',
    message: /tensor up_blocks.1.resnets.0.norm1.linear.bias of shape \[256\] is missing/,
  })
})

t.test('blocks numbered with gaps', async (t) => {
  // As BK-SDM and tiny-sd are converted: the numbers are those of Stable Diffusion, which has more layers.
  const config: UnetConfig = { ...SD1, layersPerBlock: [1, 1], midTransformerDepth: -1 }
  const gaps: Record<string, string> = {
    'input_blocks.2.': 'input_blocks.3.',
    'input_blocks.3.': 'input_blocks.4.',
    'output_blocks.1.2.conv': 'output_blocks.2.2.conv',
    'output_blocks.1.1.conv': 'output_blocks.2.1.conv',
    'output_blocks.2.': 'output_blocks.3.',
    'output_blocks.3.': 'output_blocks.4.',
  }
  const renamed = Object.fromEntries(
    Object.entries(originalUnet(config)).map(([name, tensor]) => {
      const from = Object.keys(gaps).find((key) => name.includes(`.${key}`))
      return [from ? name.replace(from, gaps[from]) : name, tensor]
    }),
  )
  const model = await openModel(writeSafetensors(freshPath(t, '.safetensors'), renamed))
  t.same(model.unet!.config, config)
})

t.test('a GGUF file with the original names, partly quantized', async (t) => {
  const tensors: TestTensors = {}
  for (const [name, tensor] of Object.entries({
    ...originalUnet(TINY_UNET),
    ...originalVae(vaeShapes(TINY_VAE), 3),
  })) {
    const matrix = tensor.shape.length === 2 && tensor.shape[1] % 32 === 0
    tensors[name] = { shape: tensor.shape, type: matrix ? 8 : tensor.shape.length > 1 ? 1 : 0 }
  }
  const model = await openModel(writeGguf(freshPath(t, '.gguf'), tensors))
  t.equal(model.format, 'gguf')
  t.same(model.unet!.config, TINY_UNET)
  t.same(model.vae!.config, TINY_VAE)
  sameShapes(t, model.unet!.source, unetShapes(TINY_UNET), 'unet')

  const summary = componentSummary(model.unet!.source)
  const parameters = [...unetShapes(TINY_UNET).values()].reduce(
    (sum, shape) => sum + shape.reduce((a, b) => a * b, 1),
    0,
  )
  t.equal(summary.parameters, parameters)
  t.equal(summary.tensors, unetShapes(TINY_UNET).size)
  t.same(summary.types.map(({ type }) => type).sort(), ['f16', 'f32', 'q8_0'])
  t.equal(
    summary.bytes,
    summary.types.reduce((sum, { bytes }) => sum + bytes, 0),
  )
  const q8 = summary.types.find(({ type }) => type === 'q8_0')!
  t.equal(q8.bytes, (q8.parameters / 32) * 34)
})
