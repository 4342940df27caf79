import type { KBlocks, TextEncoderConfig, UnetConfig } from '../../native.js'
import { show } from '../../quote.js'
import type { ScheduleDescription } from '../model-description.js'
import { unsupported } from '../formats/fail.js'
import type { ConfigReader } from './config-reader.js'
import { limits } from './limits.js'
import { defaultSchedule } from './schedule.js'

/**
 * The ×2 latent upscaler of Stable Diffusion (Stability AI and K. Crowson): k-diffusion's UNet, which diffusers has as
 * UNet2DConditionModel with K-blocks.
 */

export function isLatentUpscaler(unet: Pick<UnetConfig, 'kBlocks'> | undefined): boolean {
  return unet?.kBlocks !== undefined
}

/** Numbers of the time condition beside the pooled text: they embed the noise level of the image. */
export const NOISE_LEVEL_WIDTH = 128

/** Width of the pooled text that the UNet takes with the timestep: that of the text encoder, or what its width leaves. */
export function pooledTextWidth(
  { conditionWidth }: KBlocks,
  textEncoder: Pick<TextEncoderConfig, 'width' | 'projectionWidth'> | undefined,
): number {
  return textEncoder ? (textEncoder.projectionWidth ?? textEncoder.width) : conditionWidth - NOISE_LEVEL_WIDTH
}

/** Channels of a normalization's group, and of an attention's head in the published model. */
const GROUP_WIDTH = 32
const HEAD_WIDTH = 64

const K_BLOCK = /^K(CrossAttn)?(Down|Up)Block2D$/

/** Whether a config.json of UNet2DConditionModel has K-blocks. */
export function usesKBlocks(c: ConfigReader): boolean {
  return ['down_block_types', 'up_block_types'].some((key) => {
    const types = c.get(key)
    return Array.isArray(types) && types.some((type) => typeof type === 'string' && K_BLOCK.test(type))
  })
}

/** Fields that must have this value. The classes' defaults are other ones, so that they may not be absent, either. */
const FIXED = {
  act_fn: 'gelu',
  conv_in_kernel: 1,
  conv_out_kernel: 1,
  mid_block_type: null,
  norm_num_groups: null,
  time_embedding_type: 'fourier',
  timestep_post_act: 'gelu',
} as const

/** Fields that must be absent, null or false. */
const WITHOUT = [
  'addition_embed_type',
  'center_input_sample',
  'class_embed_type',
  'class_embeddings_concat',
  'encoder_hid_dim',
  'encoder_hid_dim_type',
  'num_class_embeds',
  'time_embedding_act_fn',
] as const

/** Reads a config.json with K-blocks. What it says about attention, norms and resampling of other blocks does not count. */
export function kUnetConfig(c: ConfigReader): UnetConfig {
  for (const [key, value] of Object.entries(FIXED)) if (c.get(key) !== value) throw c.refuse(key, show(value))
  for (const key of WITHOUT) if (c.has(key) && c.get(key) !== false) throw c.refuse(key, 'null')
  const blockChannels = c.integers('block_out_channels', [320, 640, 1280, 1280], 1, limits().channels)
  const levels = blockChannels.length
  if (levels > limits().levels)
    throw c.fail('block_out_channels', `list of at most ${limits().levels} levels`)
  const attends = attendingLevels(c, 'down_block_types', 'Down', levels)
  const up = attendingLevels(c, 'up_block_types', 'Up', levels).reverse()
  if (up.join() !== attends.join())
    throw c.refuse('up_block_types', 'the blocks of down_block_types in reverse')
  const alike = (key: string, fallback: number) => {
    const values = c.integerPerLevel(key, fallback, 1, limits().channels, levels)
    if (values.some((value) => value !== values[0])) throw c.refuse(key, 'the same number at every level')
    return values[0]
  }
  return kUnet({
    inChannels: c.integer('in_channels', 4, 1, limits().channels),
    outChannels: c.integer('out_channels', 4, 1, limits().channels),
    blockChannels,
    layersPerBlock: c.integerPerLevel('layers_per_block', 2, 1, limits().layersPerLevel, levels),
    attends,
    contextWidth: alike('cross_attention_dim', 1280),
    normEps: c.number('norm_eps', 1e-5, 0, 1),
    flipSinToCos: c.boolean('flip_sin_to_cos', true),
    kBlocks: {
      headWidth: alike('attention_head_dim', 8),
      groupWidth: GROUP_WIDTH,
      timeWidth: c.has('time_embedding_dim')
        ? c.integer('time_embedding_dim', undefined, 2, limits().channels)
        : 2 * blockChannels[0],
      conditionWidth: c.integer('time_cond_proj_dim', undefined, 1, limits().channels),
    },
  })
}

/** 1 for each level of which the blocks attend, in the order of the list. */
function attendingLevels(c: ConfigReader, key: string, side: 'Down' | 'Up', levels: number): number[] {
  const types = c.strings(key, [])
  if (types.length !== levels)
    throw c.fail(key, `list of ${levels} block types, one for each of block_out_channels,`)
  return types.map((type, i) => {
    if (type === `K${side}Block2D`) return 0
    if (type === `KCrossAttn${side}Block2D`) return 1
    throw unsupported(
      c.path,
      `expected K${side}Block2D or KCrossAttn${side}Block2D for ${c.name(key)}[${i}] but received ${show(type)}`,
    )
  })
}

type KFields = Pick<
  UnetConfig,
  | 'inChannels'
  | 'outChannels'
  | 'blockChannels'
  | 'layersPerBlock'
  | 'contextWidth'
  | 'normEps'
  | 'flipSinToCos'
> & { attends: number[]; kBlocks: KBlocks }

function kUnet({ attends, ...fields }: KFields): UnetConfig {
  const { blockChannels, kBlocks } = fields
  return {
    ...fields,
    downTransformerDepth: attends,
    upTransformerDepth: attends,
    midTransformerDepth: -1,
    heads: blockChannels.map((channels) => Math.max(1, Math.floor(channels / kBlocks.headWidth))),
    normGroups: 1,
    freqShift: 0,
  }
}

/** What deriving a configuration must know of the tensors. */
interface Shapes {
  has(name: string): boolean
  channels(name: string, dimension: number): number
  count(limit: number, name: (i: number) => string): number
}

/** Whether a UNet has the tensors of k-diffusion's. */
export function hasKBlocks(shapes: Pick<Shapes, 'has'>): boolean {
  return shapes.has('time_proj.weight') && shapes.has('down_blocks.0.resnets.0.norm1.linear.weight')
}

/** The configuration by the shapes of the tensors; what they do not tell is as in the published model. */
export function deriveKUnet(shapes: Shapes): UnetConfig {
  const block = (level: number, layer: number) => `down_blocks.${level}.resnets.${layer}.conv1.weight`
  const levels = [...Array(shapes.count(limits().levels, (i) => block(i, 0))).keys()]
  const attends = levels.map((i) => Number(shapes.has(`down_blocks.${i}.attentions.0.attn2.to_k.weight`)))
  const attention = `down_blocks.${levels.length - 1}.attentions.0.attn2.to_k.weight`
  return kUnet({
    inChannels: shapes.channels('conv_in.weight', 1),
    outChannels: shapes.channels('conv_out.weight', 0),
    blockChannels: levels.map((i) => shapes.channels(block(i, 0), 0)),
    layersPerBlock: levels.map((i) => shapes.count(limits().layersPerLevel, (j) => block(i, j))),
    attends,
    contextWidth: shapes.channels(attention, 1),
    normEps: 1e-5,
    flipSinToCos: true,
    kBlocks: {
      headWidth: HEAD_WIDTH,
      groupWidth: GROUP_WIDTH,
      timeWidth: shapes.channels('time_embedding.linear_1.weight', 0),
      conditionWidth: shapes.channels('time_embedding.cond_proj.weight', 1),
    },
  })
}

/** Reads UnetConfig.kBlocks of our own metadata. */
export function readKBlocks(c: ConfigReader): KBlocks {
  const width = (key: keyof KBlocks) => c.integer(key, undefined, 1, limits().channels)
  return {
    headWidth: width('headWidth'),
    groupWidth: width('groupWidth'),
    timeWidth: width('timeWidth'),
    conditionWidth: width('conditionWidth'),
  }
}

/** The schedule where no file says it: the UNet's output becomes the denoised latents, see lib/pipeline/precondition.ts. */
export const latentUpscalerSchedule = (): ScheduleDescription => ({
  ...defaultSchedule('sample'),
  className: 'EulerDiscreteScheduler',
})
