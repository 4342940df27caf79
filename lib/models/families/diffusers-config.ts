import type { ClassEmbedding, TextEncoderConfig, UnetConfig, VaeConfig } from '../../native.js'
import { show } from '../../quote.js'
import { isInteger, type ConfigReader } from './config-reader.js'
import { unsupported } from '../formats/fail.js'
import { kUnetConfig, usesKBlocks } from './latent-upscaler.js'
import { limits } from './limits.js'

/**
 * Converts the config.json files of diffusers and transformers to the engine's configurations. Defaults are those of
 * the classes' constructors. Keys that change the result and that the engine does not support are refused; others are
 * ignored.
 */

/** Fields of UNet2DConditionModel that must have one of these values (or be absent). */
const UNET_FIXED: readonly (readonly [key: string, ...values: unknown[]])[] = [
  ['act_fn', 'silu', 'swish'],
  ['attention_type', 'default'],
  ['center_input_sample', false],
  ['class_embeddings_concat', false],
  ['conv_in_kernel', 3],
  ['conv_out_kernel', 3],
  ['cross_attention_norm', null],
  ['double_self_attention', false, null],
  ['downsample_padding', 1],
  ['dual_cross_attention', false],
  ['encoder_hid_dim', null],
  ['encoder_hid_dim_type', null],
  ['mid_block_scale_factor', 1],
  ['resnet_out_scale_factor', 1],
  ['resnet_skip_time_act', false],
  ['resnet_time_scale_shift', 'default'],
  ['time_embedding_act_fn', null],
  ['time_embedding_type', 'positional'],
  ['timestep_post_act', null],
]

function requireFixed(c: ConfigReader, table: typeof UNET_FIXED): void {
  for (const [key, ...values] of table) {
    const value = c.get(key)
    if (value !== undefined && !values.includes(value)) throw c.refuse(key, values.map(show).join(' or '))
  }
}

/** UNets of other architectures under the same class name, by a block type that only they have. */
const OTHER_UNETS: readonly (readonly [RegExp, string])[] = [
  [
    /^SimpleCrossAttn|^Resnet(Down|Up)sampleBlock2D$/,
    'the UNet of DeepFloyd IF, Kandinsky 2 or unCLIP (Karlo)',
  ],
  [/^(Down|Up|CrossAttn(Down|Up))BlockMotion$/, 'the UNet of AnimateDiff'],
]

function refuseOtherUnets(c: ConfigReader): void {
  for (const key of ['down_block_types', 'up_block_types']) {
    const types = c.get(key)
    for (const type of Array.isArray(types) ? (types as unknown[]) : []) {
      const [, what] = OTHER_UNETS.find(([pattern]) => typeof type === 'string' && pattern.test(type)) ?? []
      if (what !== undefined)
        throw unsupported(c.path, `this is ${what}, which is not supported (${show(type)} in ${c.name(key)})`)
    }
  }
}

export function unetConfig(c: ConfigReader): UnetConfig {
  if (usesKBlocks(c)) return kUnetConfig(c)
  refuseOtherUnets(c)
  requireFixed(c, UNET_FIXED)
  const blockChannels = c.integers('block_out_channels', [320, 640, 1280, 1280], 1, limits().channels)
  const levels = blockChannels.length
  if (levels > limits().levels)
    throw c.fail('block_out_channels', `list of at most ${limits().levels} levels`)
  const timeWidth = c.has('time_embedding_dim')
    ? c.integer('time_embedding_dim', undefined, 1, 1 << 20)
    : undefined
  if (timeWidth !== undefined && timeWidth !== 4 * blockChannels[0]) {
    throw c.refuse('time_embedding_dim', `${4 * blockChannels[0]}, four times the first level's channels,`)
  }
  if (c.get('norm_num_groups') === null) throw c.refuse('norm_num_groups', 'integer')

  const downAttends = attends(c, 'down_block_types', 'Down', levels)
  const upAttends = attends(c, 'up_block_types', 'Up', levels).reverse()
  const layersPerBlock = c.integerPerLevel('layers_per_block', 2, 1, limits().layersPerLevel, levels)
  const depths = transformerDepths(c, layersPerBlock)
  const added = addedConditions(c)
  const classEmbedding = classEmbeddingOf(c)
  const only = onlyCrossAttention(c, levels)
  return {
    inChannels: c.integer('in_channels', 4, 1, limits().channels),
    outChannels: c.integer('out_channels', 4, 1, limits().channels),
    blockChannels,
    layersPerBlock,
    downTransformerDepth: depths.down.map((depth, i) => (downAttends[i] ? depth : 0)),
    upTransformerDepth: depths.up.map((depth, i) => (upAttends[i] ? depth : 0)),
    midTransformerDepth: middleDepth(c, firstOf(depths.down.at(-1)!)),
    heads: headsPerLevel(c, levels),
    ...(only && { onlyCrossAttention: only }),
    contextWidth: contextWidth(c, levels),
    normGroups: c.integer('norm_num_groups', 32, 1, limits().channels),
    normEps: c.number('norm_eps', 1e-5, 0, 1),
    flipSinToCos: c.boolean('flip_sin_to_cos', true),
    freqShift: c.number('freq_shift', 0, -1e6, 1e6),
    ...(added && { added }),
    ...(c.has('time_cond_proj_dim') && {
      guidanceWidth: c.integer('time_cond_proj_dim', undefined, 4, limits().channels),
    }),
    ...(classEmbedding && { classEmbedding }),
  }
}

/** Pooled text and numbers that are embedded with the timestep (SDXL). */
function addedConditions(c: ConfigReader): UnetConfig['added'] {
  if (!c.has('addition_embed_type')) return undefined
  c.choice('addition_embed_type', ['text_time'])
  return {
    width: c.integer('projection_class_embeddings_input_dim', undefined, 1, limits().channels),
    timeWidth: c.integer('addition_time_embed_dim', undefined, 1, limits().channels),
  }
}

function classEmbeddingOf(c: ConfigReader): ClassEmbedding | undefined {
  if (c.has('class_embed_type')) {
    const kind = c.choice('class_embed_type', ['timestep', 'projection'])
    if (kind === 'timestep') return { kind }
    return {
      kind,
      width: c.integer('projection_class_embeddings_input_dim', undefined, 1, limits().channels),
    }
  }
  if (!c.has('num_class_embeds')) return undefined
  return { kind: 'table', count: c.integer('num_class_embeds', undefined, 1, limits().vocabulary) }
}

/** Which blocks of the encoder or decoder have cross-attention, in the order of the list. */
function attends(c: ConfigReader, key: string, side: 'Down' | 'Up', levels: number): boolean[] {
  const plain = `${side}Block2D`
  const crossed = `CrossAttn${plain}`
  const fallback = side === 'Down' ? [crossed, crossed, crossed, plain] : [plain, crossed, crossed, crossed]
  const types = c.strings(key, fallback)
  if (types.length !== levels)
    throw c.fail(key, `list of ${levels} block types, one for each of block_out_channels,`)
  return types.map((type, i) => {
    if (type === plain || type === crossed) return type === crossed
    throw unsupported(
      c.path,
      `expected ${plain} or ${crossed} for ${c.name(key)}[${i}] but received ${show(type)}`,
    )
  })
}

/** As in UnetConfig: −1 without a middle block, 0 for one without attention. */
function middleDepth(c: ConfigReader, crossed: number): number {
  if (c.get('mid_block_type') === null) return -1
  const attending = 'UNetMidBlock2DCrossAttn'
  return c.choice('mid_block_type', [attending, 'UNetMidBlock2D'], attending) === attending ? crossed : 0
}

/** As in UnetConfig. In diffusers, too, it does not count for the middle block. */
function onlyCrossAttention(c: ConfigReader, levels: number): number[] | undefined {
  const key = 'only_cross_attention'
  const value = c.get(key) ?? false
  const list: unknown[] = Array.isArray(value) ? value : new Array<unknown>(levels).fill(value)
  if (list.length !== levels || !list.every((v) => typeof v === 'boolean'))
    throw c.fail(key, `true or false, or a list of ${levels} of them,`)
  return list.includes(true) ? list.map(Number) : undefined
}

/** Transformer blocks of each attention in the encoder and decoder, highest resolution first. */
function transformerDepths(c: ConfigReader, layers: number[]): Record<'down' | 'up', Depth[]> {
  const key = 'transformer_layers_per_block'
  const reversed = `reverse_${key}`
  const down = depthList(c, key, layers)
  // The decoder has one layer more at each level, and lists its levels from the lowest resolution.
  const decoder = layers.map((count) => count + 1)
  if (c.has(reversed)) return { down, up: depthList(c, reversed, decoder.reverse()).reverse() }
  const up = down.map((depth, i) => {
    if (typeof depth === 'number') return depth
    if (depth.length === decoder[i]) return depth
    throw c.refuse(key, `the same number of blocks in each layer of a level, or ${reversed} beside it,`)
  })
  return { down, up }
}

type Depth = number | number[]

function firstOf(depth: Depth): number {
  return typeof depth === 'number' ? depth : depth[0]
}

/** One number for all levels, or for each level one number or one for each of its layers. */
function depthList(c: ConfigReader, key: string, layers: number[]): Depth[] {
  const value = c.get(key)
  if (!Array.isArray(value) || !value.some(Array.isArray)) {
    return c.integerPerLevel(key, 1, 1, limits().transformerDepth, layers.length)
  }
  if (value.length !== layers.length) throw c.fail(key, `list of ${layers.length} elements`)
  return value.map((element: unknown, level) => {
    const list: unknown[] = Array.isArray(element) ? element : [element]
    if (!list.every((depth) => isInteger(depth, 1, limits().transformerDepth)) || list.length === 0)
      throw c.fail(key, `integers between 1 and ${limits().transformerDepth}`)
    const depths = list
    if (depths.every((depth) => depth === depths[0])) return depths[0]
    if (depths.length === layers[level]) return depths
    throw c.fail(key, `number or list of ${layers[level]} for level ${level}`)
  })
}

/**
 * The number of heads. diffusers' `attention_head_dim` is the number of heads unless `num_attention_heads` is given: a
 * misnomer that its authors kept for published configurations (https://github.com/huggingface/diffusers/issues/2011).
 */
function headsPerLevel(c: ConfigReader, levels: number): number[] {
  const key = c.has('num_attention_heads') ? 'num_attention_heads' : 'attention_head_dim'
  return c.integerPerLevel(key, 8, 1, limits().channels, levels)
}

function contextWidth(c: ConfigReader, levels: number): number {
  const widths = c.integerPerLevel('cross_attention_dim', 1280, 1, limits().channels, levels)
  if (widths.some((width) => width !== widths[0]))
    throw c.refuse('cross_attention_dim', 'the same width at every level')
  return widths[0]
}

const VAE_FIXED: typeof UNET_FIXED = [
  ['act_fn', 'silu', 'swish'],
  ['latents_mean', null],
  ['latents_std', null],
  ['norm_type', 'group'],
  ['shift_factor', null, 0],
]

/** @param quantized VQModel, otherwise AutoencoderKL */
export function vaeConfig(c: ConfigReader, quantized: boolean): { config: VaeConfig; scalingFactor: number } {
  requireFixed(c, VAE_FIXED)
  const blockChannels = c.integers('block_out_channels', [64], 1, limits().channels)
  if (blockChannels.length > limits().levels)
    throw c.fail('block_out_channels', `list of at most ${limits().levels} levels`)
  // prettier-ignore
  for (const [key, type] of [['down_block_types', 'DownEncoderBlock2D'], ['up_block_types', 'UpDecoderBlock2D']] as const) {
    const types = c.strings(key, [type])
    if (types.length !== blockChannels.length) throw c.fail(key, `list of ${blockChannels.length} block types`)
    if (types.some((t) => t !== type)) throw c.refuse(key, `only ${type}`)
  }
  const latentChannels = c.integer('latent_channels', quantized ? 3 : 4, 1, limits().channels)
  const config: VaeConfig = {
    inChannels: c.integer('in_channels', 3, 1, limits().channels),
    outChannels: c.integer('out_channels', 3, 1, limits().channels),
    latentChannels,
    blockChannels,
    layersPerBlock: c.integer('layers_per_block', 1, 1, limits().layersPerLevel),
    normGroups: c.integer('norm_num_groups', 32, 1, limits().channels),
    midAttention: c.boolean('mid_block_add_attention', true),
    quantConv: quantized || c.boolean('use_quant_conv', true),
    postQuantConv: quantized || c.boolean('use_post_quant_conv', true),
  }
  if (quantized) {
    const size = c.integer('num_vq_embeddings', 256, 1, limits().vocabulary)
    const width = c.has('vq_embed_dim')
      ? c.integer('vq_embed_dim', undefined, 1, limits().channels)
      : latentChannels
    config.codebook = { size, width }
  }
  const scalingFactor = c.has('scaling_factor') ? c.number('scaling_factor', undefined, 1e-6, 1e6) : 0.18215
  return { config, scalingFactor }
}

/**
 * transformers' CLIPTextConfig, or the `text_config` of a CLIPConfig.
 *
 * @param projects whether the class is CLIPTextModelWithProjection
 */
export function textConfig(outer: ConfigReader, projects = false): TextEncoderConfig {
  const c = outer.has('text_config') ? outer.child('text_config') : outer
  if (c.has('model_type')) c.choice('model_type', ['clip_text_model', 'clip'])
  return {
    vocabSize: c.integer('vocab_size', 49408, 1, limits().vocabulary),
    width: c.integer('hidden_size', 512, 1, limits().channels),
    layers: c.integer('num_hidden_layers', 12, 1, limits().textLayers),
    heads: c.integer('num_attention_heads', 8, 1, limits().channels),
    intermediate: c.integer('intermediate_size', 2048, 1, limits().feedForward),
    maxPositions: c.integer('max_position_embeddings', 77, 1, limits().positions),
    activation: c.choice('hidden_act', ['quick_gelu', 'gelu'], 'quick_gelu'),
    layerNormEps: c.number('layer_norm_eps', 1e-5, 0, 1),
    ...(projects && { projectionWidth: c.integer('projection_dim', 512, 1, limits().channels) }),
  }
}
