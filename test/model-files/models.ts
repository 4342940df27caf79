import {
  native,
  type ModelConfigs,
  type TextEncoderConfig,
  type UnetConfig,
  type VaeConfig,
} from '../../lib/native.js'
import type { TestTensor } from './helpers.js'

/** Small models of real topology, and an independent implementation of the original tensor names. */

export const TINY_UNET: UnetConfig = {
  inChannels: 4,
  outChannels: 4,
  blockChannels: [32, 64, 64],
  layersPerBlock: [2, 2, 2],
  downTransformerDepth: [1, 2, 0],
  upTransformerDepth: [1, 2, 0],
  midTransformerDepth: 1,
  heads: [8, 8, 8],
  contextWidth: 24,
  normGroups: 32,
  normEps: 1e-5,
  flipSinToCos: true,
  freqShift: 0,
}

export const TINY_VAE: VaeConfig = {
  inChannels: 3,
  outChannels: 3,
  latentChannels: 4,
  blockChannels: [32, 64, 64],
  layersPerBlock: 2,
  normGroups: 32,
  midAttention: true,
  quantConv: true,
  postQuantConv: true,
}

export const TINY_TEXT: TextEncoderConfig = {
  vocabSize: 100,
  width: 64,
  layers: 2,
  heads: 1,
  intermediate: 128,
  maxPositions: 16,
  activation: 'quick_gelu',
  layerNormEps: 1e-5,
}

/** The shapes of a model's tensors by name. */
export type Shapes = Map<string, number[]>

export function shapesOf<Kind extends keyof ModelConfigs>(kind: Kind, config: ModelConfigs[Kind]): Shapes {
  return new Map(
    native()
      .requiredTensors(kind, config)
      .map(({ name, shape }) => [name, shape]),
  )
}
export const unetShapes = (config: UnetConfig) => shapesOf('unet', config)
export const vaeShapes = (config: VaeConfig) => shapesOf('vae', config)
export const textShapes = (config: TextEncoderConfig) => shapesOf('textEncoder', config)

/** Makes the projections around each transformer 1×1 convolutions, as in Stable Diffusion 1. */
export function withConvolutions(shapes: Shapes): Shapes {
  const wide = (name: string) => /\.proj_(in|out)\.weight$/.test(name)
  return new Map([...shapes].map(([name, shape]) => [name, wide(name) ? [...shape, 1, 1] : shape]))
}

export type TestTensors = Record<string, TestTensor>

export function tensorsOf(
  layout: Shapes,
  rename: (name: string) => string = (name) => name,
  type?: string | number,
): TestTensors {
  const entries = [...layout].map(([name, shape]) => [
    rename(name),
    type === undefined ? { shape } : { shape, type },
  ])
  return Object.fromEntries(entries) as TestTensors
}

const RESNET: Record<string, string> = {
  norm1: 'in_layers.0',
  conv1: 'in_layers.2',
  time_emb_proj: 'emb_layers.1',
  norm2: 'out_layers.0',
  conv2: 'out_layers.3',
  conv_shortcut: 'skip_connection',
}

/** The original name of a UNet's tensor by its name in diffusers. */
export function originalUnetName(name: string, config: UnetConfig): string {
  const [root = '', ...rest] = name.split('.')
  const leaf = rest.at(-1)!
  if (root === 'conv_in') return `input_blocks.0.0.${leaf}`
  if (root === 'conv_norm_out') return `out.0.${leaf}`
  if (root === 'conv_out') return `out.2.${leaf}`
  if (root === 'add_embedding') return `label_emb.0.${rest[0] === 'linear_1' ? 0 : 2}.${leaf}`
  if (root === 'class_embedding') {
    return rest.length === 1 ? `label_emb.${leaf}` : `label_emb.0.${rest[0] === 'linear_1' ? 0 : 2}.${leaf}`
  }
  if (root === 'time_embedding') return `time_embed.${rest[0] === 'linear_1' ? 0 : 2}.${leaf}`
  const inside = (from: number) => (kind: string) =>
    kind === 'resnets' ? `${RESNET[rest[from]]}.${leaf}` : rest.slice(from).join('.')
  if (root === 'mid_block') {
    const index = rest[0] === 'attentions' ? 1 : 2 * Number(rest[1])
    return `middle_block.${index}.${inside(2)(rest[0])}`
  }
  const levels = config.blockChannels.length
  const block = Number(rest[0])
  const [kind = '', layer] = [rest[1], Number(rest[2])]
  if (root === 'down_blocks') {
    let first = 1
    for (let i = 0; i < block; i++) first += config.layersPerBlock[i] + 1
    if (kind === 'downsamplers') return `input_blocks.${first + config.layersPerBlock[block]}.0.op.${leaf}`
    return `input_blocks.${first + layer}.${kind === 'resnets' ? 0 : 1}.${inside(3)(kind)}`
  }
  const level = levels - 1 - block
  let first = 0
  for (let i = 0; i < block; i++) first += config.layersPerBlock[levels - 1 - i] + 1
  if (kind === 'upsamplers') {
    const place = [config.upTransformerDepth[level]].flat().some((depth) => depth > 0) ? 2 : 1
    return `output_blocks.${first + config.layersPerBlock[level]}.${place}.conv.${leaf}`
  }
  return `output_blocks.${first + layer}.${kind === 'resnets' ? 0 : 1}.${inside(3)(kind)}`
}

/** The original name of an autoencoder's tensor by its name in diffusers. */
export function originalVaeName(name: string, levels: number): string {
  const up = (block: string) => levels - 1 - Number(block)
  return name
    .replace('mid_block.resnets.0', 'mid.block_1')
    .replace('mid_block.resnets.1', 'mid.block_2')
    .replace('mid_block.attentions.0', 'mid.attn_1')
    .replace('group_norm', 'norm')
    .replace('to_out.0', 'proj_out')
    .replace(/to_([qkv])/, '$1')
    .replace('conv_norm_out', 'norm_out')
    .replace('conv_shortcut', 'nin_shortcut')
    .replace(/down_blocks\.(\d)\.resnets/, 'down.$1.block')
    .replace(/down_blocks\.(\d)\.downsamplers\.0/, 'down.$1.downsample')
    .replace(/up_blocks\.(\d)\.resnets/, (_, block: string) => `up.${up(block)}.block`)
    .replace(/up_blocks\.(\d)\.upsamplers\.0/, (_, block: string) => `up.${up(block)}.upsample`)
}

/** An autoencoder's tensors under their original names, with attention as 1×1 convolutions. */
export function originalVae(layout: Shapes, levels: number, prefix = 'first_stage_model.'): TestTensors {
  const tensors: TestTensors = {}
  for (const [name, shape] of layout) {
    const wide = name.includes('attentions') && shape.length === 2 ? [...shape, 1, 1] : shape
    tensors[prefix + originalVaeName(name, levels)] = { shape: wide }
  }
  return tensors
}

/** A text encoder's tensors under OpenCLIP's names, with fused query, key and value. */
export function openClip(layout: Shapes, prefix = 'cond_stage_model.model.'): TestTensors {
  const tensors: TestTensors = {}
  for (const [name, shape] of layout) {
    // The projection is stored [width, projection width]; `layout` says so if its configuration does.
    if (name === 'text_projection.weight') {
      tensors[`${prefix}text_projection`] = { shape }
      continue
    }
    const renamed = name
      .replace('embeddings.token_embedding', 'token_embedding')
      .replace('embeddings.position_embedding.weight', 'positional_embedding')
      .replace('encoder.layers', 'transformer.resblocks')
      .replace('layer_norm', 'ln_')
      .replace('self_attn.out_proj', 'attn.out_proj')
      .replace('mlp.fc1', 'mlp.c_fc')
      .replace('mlp.fc2', 'mlp.c_proj')
      .replace(/^final_ln_\./, 'ln_final.')
    const fused = /^(.*)self_attn\.([qkv])_proj\.(weight|bias)$/.exec(renamed)
    if (!fused) tensors[prefix + renamed] = { shape }
    else if (fused[2] === 'q')
      tensors[`${prefix}${fused[1]}attn.in_proj_${fused[3]}`] = { shape: [3 * shape[0], ...shape.slice(1)] }
  }
  return tensors
}
