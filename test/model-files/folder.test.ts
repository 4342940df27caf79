import { join } from 'node:path'
import { chooseWeights } from '../../lib/models/formats/weight-files.js'
import { openModel } from '../../lib/models/index.js'
import { freshPath, rejects, t, writeJson, writeSafetensors, writeSparse } from './helpers.js'
import { torchFile } from './pickles.js'
import { tensorsOf, textShapes, TINY_TEXT, TINY_UNET, TINY_VAE, unetShapes, vaeShapes } from './models.js'

type Json = Record<string, unknown>

/** config.json of the small models, without the defaults of diffusers. */
const UNET: Json = {
  _class_name: 'UNet2DConditionModel',
  block_out_channels: [32, 64, 64],
  down_block_types: ['CrossAttnDownBlock2D', 'CrossAttnDownBlock2D', 'DownBlock2D'],
  up_block_types: ['UpBlock2D', 'CrossAttnUpBlock2D', 'CrossAttnUpBlock2D'],
  transformer_layers_per_block: [1, 2, 1],
  cross_attention_dim: 24,
  sample_size: 16,
}
const VAE: Json = {
  _class_name: 'AutoencoderKL',
  block_out_channels: [32, 64, 64],
  down_block_types: Array(3).fill('DownEncoderBlock2D'),
  up_block_types: Array(3).fill('UpDecoderBlock2D'),
  layers_per_block: 2,
  scaling_factor: 0.4,
  sample_size: 40,
}
const TEXT: Json = {
  architectures: ['CLIPTextModel'],
  hidden_size: 64,
  num_attention_heads: 1,
  num_hidden_layers: 2,
  intermediate_size: 128,
  max_position_embeddings: 16,
  vocab_size: 100,
}
const TOKENIZER_CONFIG: Json = {
  model_max_length: 16,
  pad_token: { content: '<pad>' },
  added_tokens_decoder: { 49407: { content: '<|endoftext|>' } },
}
const SCHEDULER: Json = {
  _class_name: 'DDIMScheduler',
  beta_start: 0.001,
  prediction_type: 'v_prediction',
  timestep_spacing: 'trailing',
}

const unetTensors = tensorsOf(unetShapes(TINY_UNET))
const vaeTensors = tensorsOf(vaeShapes(TINY_VAE))

/** Writes a whole pipeline. `change` replaces fields of its configurations. */
function pipeline(
  folder: string,
  change: { unet?: Json; vae?: Json; text?: Json; scheduler?: Json; index?: Json } = {},
): string {
  const parts = {
    unet: 'UNet2DConditionModel',
    vae: 'AutoencoderKL',
    text_encoder: 'CLIPTextModel',
    scheduler: 'DDIMScheduler',
    safety_checker: null,
  }
  const listed = Object.fromEntries(
    Object.entries(parts).map(([part, name]) => [part, [name && 'diffusers', name]]),
  )
  writeJson(join(folder, 'model_index.json'), {
    _class_name: 'StableDiffusionPipeline',
    ...listed,
    ...change.index,
  })
  writeJson(join(folder, 'unet/config.json'), { ...UNET, ...change.unet })
  writeSafetensors(join(folder, 'unet/diffusion_pytorch_model.safetensors'), unetTensors)
  writeJson(join(folder, 'vae/config.json'), { ...VAE, ...change.vae })
  writeSafetensors(join(folder, 'vae/diffusion_pytorch_model.safetensors'), vaeTensors)
  writeJson(join(folder, 'text_encoder/config.json'), { ...TEXT, ...change.text })
  writeSafetensors(
    join(folder, 'text_encoder/model.safetensors'),
    tensorsOf(textShapes(TINY_TEXT), (name) => `text_model.${name}`),
  )
  writeJson(join(folder, 'tokenizer/vocab.json'), { a: 0 })
  writeJson(join(folder, 'tokenizer/merges.txt'), '#version: 0.2\n')
  writeJson(join(folder, 'tokenizer/tokenizer_config.json'), TOKENIZER_CONFIG)
  writeJson(join(folder, 'scheduler/scheduler_config.json'), { ...SCHEDULER, ...change.scheduler })
  return folder
}

t.test('a pipeline', async (t) => {
  const model = await openModel(pipeline(freshPath(t, '')))
  t.match(model, { format: 'diffusers', architecture: 'latent diffusion', imageSize: 64 })
  t.same(model.unet!.config, TINY_UNET)
  t.same(model.vae!.config, TINY_VAE)
  t.equal(model.vae!.scalingFactor, 0.4)
  t.same(model.textEncoders[0].config, TINY_TEXT)
  t.equal(model.textEncoders[0].skip, 0)
  t.same(model.textEncoders[0].tokenizer, {
    vocab: '{"a":0}',
    merges: '#version: 0.2\n',
    maxLength: 16,
    padToken: '<pad>',
  })
  // prettier-ignore
  t.same(model.schedule, {
    className: 'DDIMScheduler', trainTimesteps: 1000, betaStart: 0.001, betaEnd: 0.02, betaSchedule: 'linear',
    predictionType: 'v_prediction', timestepSpacing: 'trailing', stepsOffset: 0, setAlphaToOne: true,
    rescaleBetasZeroSnr: false, clipSample: true,
  }, 'missing fields have the defaults of the class')
})

t.test('trained words and guidance scale', async (t) => {
  const folder = pipeline(freshPath(t, ''))
  const path = join(folder, 'knowledge.json')
  t.notOk('trainedWords' in (await openModel(folder)))
  writeJson(path, { words: ['a', 'cat'], guidanceScale: 3, subjects: [] })
  t.match(await openModel(folder), { trainedWords: ['a', 'cat'], guidanceScale: 3 })
  writeJson(path, { words: 'a cat' })
  await rejects(t, openModel(folder), 'MODEL_FORMAT', /list of strings for words/, 'words')
  writeJson(path, { guidanceScale: -1 })
  await rejects(t, openModel(folder), 'MODEL_FORMAT', /between 0 and 100 for guidanceScale/, 'guidance')
})

t.test('UNet configurations with the same tensors', async (t) => {
  const cases: [Json, object][] = [
    [{ attention_head_dim: 4 }, { heads: [4, 4, 4] }],
    [{ attention_head_dim: [2, 4, 8] }, { heads: [2, 4, 8] }],
    [{ attention_head_dim: 64, num_attention_heads: [1, 2, 4] }, { heads: [1, 2, 4] }],
    [{ transformer_layers_per_block: [1, [2, 2], 1] }, { downTransformerDepth: [1, 2, 0] }],
    [{ reverse_transformer_layers_per_block: [1, 2, 1] }, { upTransformerDepth: [1, 2, 0] }],
    [
      { layers_per_block: [2, 2, 2], cross_attention_dim: [24, 24, 24] },
      { layersPerBlock: [2, 2, 2], contextWidth: 24 },
    ],
    [
      { flip_sin_to_cos: false, freq_shift: 1, norm_eps: 1e-6, act_fn: 'swish' },
      { flipSinToCos: false, freqShift: 1, normEps: 1e-6 },
    ],
    [
      {
        norm_num_groups: 16,
        time_embedding_dim: 128,
        upcast_attention: true,
        dropout: 0.1,
        brand_new_key: 1,
      },
      { normGroups: 16 },
    ],
    [{ num_attention_heads: null, class_embed_type: null, sample_size: [16, 24] }, { heads: [8, 8, 8] }],
  ]
  for (const [change, expected] of cases) {
    const { unet } = await openModel(pipeline(freshPath(t, ''), { unet: change }))
    t.match(unet!.config, expected, JSON.stringify(change))
  }
})

t.test('configurations that the engine does not support', async (t) => {
  // prettier-ignore
  const unet: [Json, RegExp][] = [
    [{ class_embed_type: 'identity' }, /class_embed_type but received "identity"/],
    [{ addition_embed_type: 'text' }, /addition_embed_type but received "text"/],
    [{ dual_cross_attention: true }, /dual_cross_attention/],
    [{ time_embedding_type: 'fourier' }, /time_embedding_type but received "fourier"/],
    [{ time_embedding_dim: 100 }, /time_embedding_dim but received 100/],
    [{ resnet_time_scale_shift: 'scale_shift' }, /"default" for resnet_time_scale_shift/],
    [{ act_fn: 'gelu' }, /"silu" or "swish" for act_fn but received "gelu"/],
    [{ encoder_hid_dim: 1024 }, /encoder_hid_dim/],
    [{ conv_in_kernel: 5 }, /3 for conv_in_kernel but received 5/],
    [{ attention_type: 'gated' }, /attention_type but received "gated"/],
    [{ norm_num_groups: null }, /norm_num_groups but received null/],
    [{ mid_block_scale_factor: 2 }, /mid_block_scale_factor/],
    [{ resnet_out_scale_factor: 1.4 }, /resnet_out_scale_factor/],
    [{ double_self_attention: true }, /double_self_attention/],
    [{ mid_block_type: 'UNetMidBlock2DSimpleCrossAttn' }, /mid_block_type/],
    [{ down_block_types: ['AttnDownBlock2D', 'DownBlock2D', 'DownBlock2D'] }, /CrossAttnDownBlock2D for down_block_types\[0\] but received "AttnDownBlock2D"/],
    [{ up_block_types: ['UpBlock2D', 'UpBlock2D', 'SkipUpBlock2D'] }, /up_block_types\[2\] but received "SkipUpBlock2D"/],
    [{ down_block_types: ['KDownBlock2D', 'KCrossAttnDownBlock2D', 'KCrossAttnDownBlock2D'], act_fn: 'gelu' }, /expected 1 for conv_in_kernel but received undefined/],
    [{ up_block_types: ['UpBlock2D', 'SimpleCrossAttnUpBlock2D', 'ResnetUpsampleBlock2D'] }, /DeepFloyd IF/],
    [{ cross_attention_dim: [24, 24, 32] }, /the same width at every level/],
    [{ transformer_layers_per_block: [1, [2, 1], 1] }, /the same number of blocks/],
    [{ _class_name: 'UNet2DModel' }, /expected UNet2DConditionModel, .*found "UNet2DModel"/],
  ]
  for (const [change, message] of unet) {
    await rejects(
      t,
      openModel(pipeline(freshPath(t, ''), { unet: change })),
      'UNSUPPORTED_MODEL',
      message,
      JSON.stringify(change),
    )
  }
  // prettier-ignore
  const others: [Parameters<typeof pipeline>[1], RegExp][] = [
    [{ vae: { latents_mean: [0, 0, 0, 0] } }, /vae.config.json: expected null for latents_mean/],
    [{ vae: { shift_factor: 0.1 } }, /shift_factor but received 0.1/],
    [{ vae: { down_block_types: ['DownEncoderBlock2D', 'DownEncoderBlock2D', 'AttnDownEncoderBlock2D'] } }, /down_block_types/],
    [{ vae: { _class_name: 'VQModel', norm_type: 'spatial' } }, /"group" for norm_type/],
    [{ vae: { _class_name: 'AutoencoderDC' } }, /found "AutoencoderDC"/],
    [{ text: { hidden_act: 'gelu_new' } }, /hidden_act but received "gelu_new"/],
    [{ text: { architectures: ['BertModel'] } }, /found "BertModel"/],
    [{ text: { model_type: 't5' } }, /model_type but received "t5"/],
    [{ scheduler: { _class_name: 'FlowMatchEulerDiscreteScheduler' } }, /_class_name but received "FlowMatch/],
    [{ scheduler: { prediction_type: 'flow_prediction' } }, /prediction_type but received "flow_prediction"/],
    [{ scheduler: { beta_schedule: 'sigmoid' } }, /beta_schedule but received "sigmoid"/],
    [{ index: { text_encoder_3: ['transformers', 'CLIPTextModelWithProjection'] } }, /has a part text_encoder_3/],
    [{ index: { transformer: ['diffusers', 'FluxTransformer2DModel'] } }, /has a part transformer/],
  ]
  for (const [change, message] of others) {
    await rejects(
      t,
      openModel(pipeline(freshPath(t, ''), change)),
      'UNSUPPORTED_MODEL',
      message,
      JSON.stringify(change),
    )
  }
})

t.test('invalid configurations', async (t) => {
  // prettier-ignore
  const cases: [Parameters<typeof pipeline>[1], RegExp][] = [
    [{ unet: { block_out_channels: [32, '64', 64] } }, /list of one or more integers between 1 and 32768 for block_out_channels but received \[32,"64",64\]/],
    [{ unet: { only_cross_attention: 'yes' } }, /true or false, or a list of 3 of them, for only_cross_attention but received "yes"/],
    [{ unet: { only_cross_attention: [false, true] } }, /only_cross_attention but received \[false,true\]/],
    [{ unet: { block_out_channels: [] } }, /block_out_channels but received \[\]/],
    [{ unet: { block_out_channels: Array(9).fill(32) } }, /at most 8 levels/],
    [{ unet: { down_block_types: ['DownBlock2D'] } }, /list of 3 block types/],
    [{ unet: { layers_per_block: 1e9 } }, /integer between 1 and 32 for layers_per_block but received 1000000000/],
    [{ unet: { layers_per_block: [2, 2] } }, /list of 3 integers/],
    [{ unet: { in_channels: -1 } }, /in_channels but received -1/],
    [{ unet: { attention_head_dim: 7 } }, /unet.config.json: expected UNet heads\[0\] to divide its 32 channels but received 7/],
    [{ unet: { norm_num_groups: 24 } }, /expected UNet normGroups to divide blockChannels\[0\], 32, but received 24/],
    [{ vae: { scaling_factor: 'x' } }, /scaling_factor but received "x"/],
    [{ vae: { norm_num_groups: 5 } }, /vae.config.json: expected VAE normGroups to divide blockChannels 32 but received 5/],
    [{ text: { num_attention_heads: 5 } }, /text_encoder.config.json: expected a text encoder's heads to divide its width 64 but received 5/],
    [{ scheduler: { beta_end: 0.6 } }, /betas that leave some of the image for beta_end but received 0.6/],
    [{ scheduler: { beta_start: 1, beta_schedule: 'scaled_linear' } }, /betas that leave some of the image/],
    [{ scheduler: { trained_betas: new Array(1000).fill(0.2) } }, /betas that leave some of the image for trained_betas/],
    [{ scheduler: { num_train_timesteps: 0 } }, /num_train_timesteps but received 0/],
    [{ scheduler: { trained_betas: [0.1] } }, /list of 1000 numbers between 0 and 1 for trained_betas/],
  ]
  for (const [change, message] of cases) {
    await rejects(
      t,
      openModel(pipeline(freshPath(t, ''), change)),
      'MODEL_FORMAT',
      message,
      JSON.stringify(change),
    )
  }
  // prettier-ignore
  await rejects(t, openModel(pipeline(freshPath(t, ''), { unet: { in_channels: 9 } })), 'MODEL_SHAPE', /conv_in.weight: expected shape \[32,9,3,3\], found \[32,4,3,3\]/, 'shape')
  const folder = pipeline(freshPath(t, ''))
  writeJson(join(folder, 'unet/config.json'), '{"a":')
  await rejects(t, openModel(folder), 'MODEL_FORMAT', /unet.config.json: is not valid JSON/, 'no JSON')
  writeJson(join(folder, 'unet/config.json'), '[]')
  await rejects(t, openModel(folder), 'MODEL_FORMAT', /expected a JSON object, found \[\]/, 'no object')
})

/** Writes a UNet's folder with its tensors distributed over files `names`, and an index. */
function shards(folder: string, names: string[], rename = (name: unknown) => name): string {
  const entries = Object.entries(unetTensors)
  const map: Json = {}
  for (const [i, shard] of names.entries()) {
    const part = entries.filter((_, j) => j % names.length === i)
    writeSafetensors(join(folder, shard), Object.fromEntries(part))
    for (const [name] of part) map[name] = rename(shard)
  }
  writeJson(join(folder, 'config.json'), UNET)
  writeJson(join(folder, 'diffusion_pytorch_model.safetensors.index.json'), { metadata: {}, weight_map: map })
  return folder
}

t.test('weight files', async (t) => {
  const names = [
    'diffusion_pytorch_model-00001-of-00002.safetensors',
    'diffusion_pytorch_model-00002-of-00002.safetensors',
  ]
  const sharded = await openModel(shards(freshPath(t, ''), names))
  t.equal(sharded.unet!.source.files.length, 2)
  t.equal(sharded.unet!.source.tensors.length, unetShapes(TINY_UNET).size)
  t.same(new Set(sharded.unet!.source.tensors.map(({ file }) => file)), new Set([0, 1]))

  // prettier-ignore
  const escapes = ['../x.safetensors', '/etc/x.safetensors', 'a/../../x.safetensors', '..\\x.safetensors', 'C:\\x.safetensors', '\\\\host\\x.safetensors', 'x\0.safetensors', '/etc/passwd', 7, null]
  for (const escape of escapes) {
    const folder = shards(freshPath(t, ''), names, () => escape)
    await rejects(
      t,
      openModel(folder),
      'MODEL_FORMAT',
      /index.json: expected the name of a .safetensors file inside the folder/,
      String(escape),
    )
  }
  const missing = shards(freshPath(t, ''), names, (name) => (name === names[0] ? 'other.safetensors' : name))
  await rejects(
    t,
    openModel(missing),
    'MODEL_FORMAT',
    /expected the file "other.safetensors" that it names/,
    'a missing shard',
  )
  const swapped = shards(freshPath(t, ''), names, () => names[0])
  await rejects(
    t,
    openModel(swapped),
    'MODEL_FORMAT',
    /expected tensor ".*" in ".*00001.*", which does not hold it/,
    'a wrong shard',
  )

  for (const variant of ['.fp16', '.bf16']) {
    const folder = freshPath(t, '')
    writeJson(join(folder, 'config.json'), UNET)
    const path = writeSafetensors(join(folder, `diffusion_pytorch_model${variant}.safetensors`), unetTensors)
    t.same((await openModel(folder)).unet!.source.files, [path], variant)
  }

  const empty = freshPath(t, '')
  writeJson(join(empty, 'config.json'), UNET)
  await rejects(
    t,
    openModel(empty),
    'MODEL_FORMAT',
    /no weights found: looked for model.safetensors, diffusion_pytorch_model.safetensors/,
    'none',
  )
  writeSparse(join(empty, 'model.onnx'), Buffer.from('x'))
  await rejects(t, openModel(empty), 'MODEL_FORMAT', /no weights found, only "model.onnx"/, 'ONNX only')
})

t.test('pickled weights', async (t) => {
  for (const name of [
    'diffusion_pytorch_model.bin',
    'pytorch_model.bin',
    'diffusion_pytorch_model.fp16.bin',
  ]) {
    const folder = freshPath(t, '')
    writeJson(join(folder, 'config.json'), UNET)
    const path = writeSparse(join(folder, name), torchFile(unetTensors))
    const { unet } = await openModel(folder)
    t.same(unet!.source.files, [path], name)
    t.equal(unet!.source.tensors.length, Object.keys(unetTensors).length)
    // Where there is a choice, no pickle is read.
    const safe = writeSafetensors(join(folder, 'diffusion_pytorch_model.fp16.safetensors'), unetTensors)
    t.same((await openModel(folder)).unet!.source.files, [safe], `${name} beside safetensors`)
  }
  const folder = freshPath(t, '')
  writeJson(join(folder, 'config.json'), UNET)
  const names = ['pytorch_model-00001-of-00002.bin', 'pytorch_model-00002-of-00002.bin']
  const entries = Object.entries(unetTensors)
  const halves = [entries.slice(0, 20), entries.slice(20)]
  const map: Record<string, string> = {}
  for (const [i, half] of halves.entries()) {
    writeSparse(join(folder, names[i]), torchFile(Object.fromEntries(half)))
    for (const [key] of half) map[key] = names[i]
  }
  writeJson(join(folder, 'pytorch_model.bin.index.json'), { weight_map: map })
  t.same(
    (await openModel(folder)).unet!.source.files,
    names.map((name) => join(folder, name)),
    'shards',
  )
})

t.test('the choice among several weight files', (t) => {
  // prettier-ignore
  const cases: [expected: string | undefined, names: string[], variant?: string][] = [
    ['model.safetensors', ['model.fp16.safetensors', 'model.safetensors', 'pytorch_model.bin']],
    ['model.fp16.safetensors', ['model.fp32.safetensors', 'model.fp16.safetensors', 'pytorch_model.bin']],
    ['model.fp32.safetensors', ['model.fp32.safetensors', 'model.safetensors'], 'fp32'],
    ['model.safetensors', ['model.safetensors', 'model.fp16.safetensors'], 'ema'],
    ['diffusion_pytorch_model.non_ema.safetensors', ['diffusion_pytorch_model.non_ema.safetensors']],
    ['model.safetensors.index.fp16.json', ['model.fp16-00001-of-00002.safetensors', 'model.safetensors.index.fp16.json', 'model.safetensors'], 'fp16'],
    ['model.safetensors.fp16.index.json', ['model-00001-of-00002.fp16.safetensors', 'model.safetensors.fp16.index.json']],
    ['pytorch_model.fp16.bin', ['pytorch_model.fp16.bin', 'flax_model.msgpack', 'openvino_model.bin']],
    [undefined, ['config.json', 'model-00001-of-00002.safetensors', 'lora.safetensors', 'openvino_model.bin', 'training_args.bin']],
  ]
  for (const [expected, names, variant] of cases)
    t.equal(chooseWeights(names, variant)?.name, expected, `${variant ?? 'no variant'}: ${names.join()}`)
  t.end()
})

t.test('single components, and folders without an index', async (t) => {
  const folder = pipeline(freshPath(t, ''))
  const unet = await openModel(join(folder, 'unet'))
  t.same([unet.unet!.config, unet.vae, unet.textEncoders, unet.imageSize], [TINY_UNET, undefined, [], 128])
  const vae = await openModel(join(folder, 'vae'))
  t.match(vae, { architecture: 'KL autoencoder', imageSize: 40, unet: undefined })
  const text = await openModel(join(folder, 'text_encoder'))
  t.match(text, { architecture: 'CLIP text encoder', textEncoders: [{ tokenizer: null }] })

  const config = { ...TINY_VAE, latentChannels: 3, codebook: { size: 48, width: 5 } }
  const quantized = freshPath(t, '')
  writeJson(join(quantized, 'vqvae/config.json'), {
    ...VAE,
    _class_name: 'VQModel',
    num_vq_embeddings: 48,
    vq_embed_dim: 5,
    lookup_from_codebook: true,
  })
  writeSafetensors(join(quantized, 'vqvae/diffusion_pytorch_model.safetensors'), tensorsOf(vaeShapes(config)))
  for (const path of [quantized, join(quantized, 'vqvae')]) {
    const model = await openModel(path)
    t.same(model.vae!.config, config)
    t.match(model, { architecture: 'VQ autoencoder', unet: undefined, textEncoders: [] })
  }
})

t.test('missing components', async (t) => {
  const folder = freshPath(t, '')
  writeJson(join(folder, 'model_index.json'), { unet: ['diffusers', 'UNet2DConditionModel'] })
  await rejects(
    t,
    openModel(folder),
    'MODEL_FORMAT',
    /names unet: expected the file unet\/config.json, found none/,
    'unet',
  )
  writeJson(join(folder, 'model_index.json'), {})
  await rejects(t, openModel(folder), 'MODEL_FORMAT', /expected one of the components/, 'no component')
  const bare = freshPath(t, '')
  writeSafetensors(join(bare, 'x.safetensors'), {})
  await rejects(
    t,
    openModel(bare),
    'MODEL_FORMAT',
    /found neither; name the file itself: "x.safetensors"/,
    'a folder of files',
  )
  const nameless = freshPath(t, '')
  writeJson(join(nameless, 'config.json'), {})
  await rejects(t, openModel(nameless), 'MODEL_FORMAT', /_class_name or architectures/, 'no class')
})

t.test('tokenizers', async (t) => {
  const folder = pipeline(freshPath(t, ''))
  const config = join(folder, 'tokenizer/tokenizer_config.json')
  const cases: [Json, Json, object][] = [
    [{ model_max_length: 1e30 }, {}, { maxLength: 16, padToken: '<|endoftext|>' }],
    [{ model_max_length: 12, pad_token: 'a' }, {}, { maxLength: 12, padToken: 'a' }],
    [{ model_max_length: 77 }, {}, { maxLength: 16 }],
    [{ pad_token: 'a' }, { pad_token: '!' }, { padToken: '!' }],
    [{ pad_token: 'a' }, { pad_token: { content: '!' } }, { padToken: '!' }],
    [{ pad_token: 'a', added_tokens_decoder: {} }, { pad_token: '!' }, { padToken: 'a' }],
  ]
  for (const [main, special, expected] of cases) {
    writeJson(config, main)
    writeJson(join(folder, 'tokenizer/special_tokens_map.json'), special)
    t.match((await openModel(folder)).textEncoders[0].tokenizer, expected, JSON.stringify([main, special]))
  }
  writeJson(config, { model_max_length: -1 })
  await rejects(t, openModel(folder), 'MODEL_FORMAT', /model_max_length but received -1/, 'length')
})
