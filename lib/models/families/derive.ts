import type { ClassEmbedding, TextEncoderConfig, UnetConfig, VaeConfig } from '../../native.js'
import { quote } from '../../quote.js'
import type { Tensors } from '../component.js'
import { badFormat, unsupported } from '../formats/fail.js'
import { deriveKUnet, hasKBlocks } from './latent-upscaler.js'
import { limits } from './limits.js'
import { PROJECTION } from '../names/text.js'
import { CONFIG_KEY } from './stored-config.js'
import { isUpscaler } from './upscaler.js'

/**
 * Derives configurations from the canonical names and shapes of tensors. What they do not tell is as usual in the
 * family.
 */

const HINT = `the tensors do not tell; use the model as a diffusers folder, or as a file with ${CONFIG_KEY} metadata`

export class Probe {
  constructor(
    readonly path: string,
    readonly tensors: Tensors,
  ) {}

  has(name: string): boolean {
    return this.tensors.has(name)
  }

  /** The size of one dimension of a tensor with at most `rank` dimensions; missing ones are 1. */
  size(name: string, dimension: number, min: number, max: number, rank: number): number {
    const tensor = this.tensors.get(name)
    if (!tensor) throw badFormat(this.path, `tensor ${name} is missing`)
    const size = tensor.shape[dimension] ?? 1
    if (tensor.shape.length <= rank && size >= min && size <= max) return size
    throw badFormat(
      this.path,
      `tensor ${quote(tensor.name)}: expected ${rank} dimensions, number ${dimension} from ${min} to ${max}, found [${tensor.shape}]`,
    )
  }

  channels(name: string, dimension: number): number {
    return this.size(name, dimension, 1, limits().channels, 4)
  }

  /** The number of tensors `name(0)`, `name(1)`, … */
  count(limit: number, name: (i: number) => string): number {
    let count = 0
    while (this.has(name(count))) {
      if (++count > limit) throw unsupported(this.path, `expected at most ${limit} of ${name(0)}, found more`)
    }
    return count
  }
}

export function deriveUnet(path: string, tensors: Tensors): UnetConfig {
  const probe = new Probe(path, tensors)
  if (hasKBlocks(probe)) return deriveKUnet(probe)
  const levels = probe.count(limits().levels, (i) => `down_blocks.${i}.resnets.0.conv1.weight`)
  if (levels === 0) throw badFormat(path, 'tensor down_blocks.0.resnets.0.conv1.weight is missing')
  const all = [...Array(levels).keys()]
  const layersPerBlock = all.map((i) =>
    probe.count(limits().layersPerLevel, (j) => `down_blocks.${i}.resnets.${j}.conv1.weight`),
  )
  const blockChannels = all.map((i) => probe.channels(`down_blocks.${i}.resnets.0.conv1.weight`, 0))
  const attention = [...tensors.keys()].find((name) =>
    name.endsWith('.transformer_blocks.0.attn2.to_k.weight'),
  )
  if (attention === undefined) throw unsupported(path, 'expected a UNet with cross-attention, found none')
  const contextWidth = probe.channels(attention, 1)
  const hasMiddle = probe.has('mid_block.resnets.0.conv1.weight')
  const added = probe.has('add_embedding.linear_1.weight')
    ? { width: probe.channels('add_embedding.linear_1.weight', 1), timeWidth: ADDED_TIME_WIDTH }
    : undefined
  const classEmbedding = deriveClassEmbedding(probe)
  const inChannels = probe.channels('conv_in.weight', 1)
  // The ×4 upscaler has Stable Diffusion 2's context and version 1's heads.
  const hasWideHeads =
    added !== undefined || (contextWidth === 1024 && !isUpscaler({ inChannels, classEmbedding }))
  const onlyCross = deriveOnlyCross(tensors, blockChannels, contextWidth)
  return {
    inChannels,
    // A ControlNet has no decoder.
    outChannels: probe.has('conv_out.weight') ? probe.channels('conv_out.weight', 0) : inChannels,
    blockChannels,
    layersPerBlock,
    downTransformerDepth: all.map((i) => levelDepth(probe, `down_blocks.${i}`, layersPerBlock[i])),
    upTransformerDepth: all.map((i) =>
      levelDepth(probe, `up_blocks.${levels - 1 - i}`, layersPerBlock[i] + 1),
    ),
    midTransformerDepth: hasMiddle ? layerDepths(probe, 'mid_block', 1)[0] : -1,
    heads: blockChannels.map((channels) => guessHeads(path, channels, hasWideHeads)),
    ...(onlyCross && { onlyCrossAttention: onlyCross }),
    contextWidth,
    normGroups: guessGroups(path, blockChannels),
    normEps: 1e-5,
    flipSinToCos: true,
    freqShift: 0,
    ...(added && { added }),
    ...(probe.has('time_embedding.cond_proj.weight') && {
      guidanceWidth: probe.channels('time_embedding.cond_proj.weight', 1),
    }),
    ...(classEmbedding && { classEmbedding }),
  }
}

/** The width of an embedded size in all published models of the SDXL family. */
const ADDED_TIME_WIDTH = 256

function deriveClassEmbedding(probe: Probe): ClassEmbedding | undefined {
  if (probe.has('class_embedding.weight'))
    return { kind: 'table', count: probe.size('class_embedding.weight', 0, 1, limits().vocabulary, 2) }
  if (probe.has('class_embedding.linear_1.weight'))
    return { kind: 'projection', width: probe.channels('class_embedding.linear_1.weight', 1) }
  return undefined
}

/**
 * Levels whose first attention takes the context, by the width of its keys. Where the image has that width as well, the
 * names and shapes do not tell, and self-attention is assumed, as in the ×4 upscaler.
 */
function deriveOnlyCross(
  tensors: Tensors,
  blockChannels: readonly number[],
  contextWidth: number,
): number[] | undefined {
  const takesContext = (prefix: string, channels: number) =>
    channels !== contextWidth &&
    [...tensors].some(
      ([name, { shape }]) =>
        name.startsWith(prefix) &&
        name.endsWith('.transformer_blocks.0.attn1.to_k.weight') &&
        shape[1] === contextWidth,
    )
  const last = blockChannels.length - 1
  const levels = blockChannels.map((channels, i) =>
    Number(takesContext(`down_blocks.${i}.`, channels) || takesContext(`up_blocks.${last - i}.`, channels)),
  )
  return levels.includes(1) ? levels : undefined
}

/** The number of transformer blocks in the attentions of a level, as in UnetConfig. */
function levelDepth(probe: Probe, prefix: string, layers: number): number | number[] {
  const depths = layerDepths(probe, prefix, layers)
  return depths.every((depth) => depth === depths[0]) ? depths[0] : depths
}

function layerDepths(probe: Probe, prefix: string, layers: number): number[] {
  return [...Array(layers).keys()].map((layer) =>
    probe.count(
      limits().transformerDepth,
      (i) => `${prefix}.attentions.${layer}.transformer_blocks.${i}.attn1.to_q.weight`,
    ),
  )
}

/**
 * Stable Diffusion 2 and XL have heads of 64 channels. Version 1 has eight heads at each level, and others are assumed
 * to.
 */
function guessHeads(path: string, channels: number, wide: boolean): number {
  const heads = wide ? channels / 64 : 8
  if (Number.isInteger(heads) && channels % heads === 0) return heads
  throw unsupported(path, `the number of attention heads of ${channels} channels is unknown: ${HINT}`)
}

function guessGroups(path: string, blockChannels: number[]): number {
  if (blockChannels.every((channels) => channels % 32 === 0)) return 32
  throw unsupported(
    path,
    `the number of normalization groups of [${blockChannels}] channels is unknown: ${HINT}`,
  )
}

export function deriveVae(path: string, tensors: Tensors): VaeConfig {
  const probe = new Probe(path, tensors)
  const levels = probe.count(limits().levels, (i) => `encoder.down_blocks.${i}.resnets.0.conv1.weight`)
  if (levels === 0) throw badFormat(path, 'tensor encoder.down_blocks.0.resnets.0.conv1.weight is missing')
  const blockChannels = [...Array(levels).keys()].map((i) =>
    probe.channels(`encoder.down_blocks.${i}.resnets.0.conv1.weight`, 0),
  )
  const latentChannels = probe.channels('decoder.conv_in.weight', 1)
  const config: VaeConfig = {
    inChannels: probe.channels('encoder.conv_in.weight', 1),
    outChannels: probe.channels('decoder.conv_out.weight', 0),
    latentChannels,
    blockChannels,
    layersPerBlock: probe.count(
      limits().layersPerLevel,
      (j) => `encoder.down_blocks.0.resnets.${j}.conv1.weight`,
    ),
    normGroups: guessGroups(path, blockChannels),
    midAttention: probe.has('decoder.mid_block.attentions.0.to_q.weight'),
    quantConv: probe.has('quant_conv.weight'),
    postQuantConv: probe.has('post_quant_conv.weight'),
  }
  if (probe.has('quantize.embedding.weight')) {
    const size = probe.size('quantize.embedding.weight', 0, 1, limits().vocabulary, 2)
    config.codebook = { size, width: probe.channels('quantize.embedding.weight', 1) }
  } else if (latentChannels === 16) {
    // Their latents are also shifted, by a number that is not in the file.
    throw unsupported(
      path,
      'this is the autoencoder of Stable Diffusion 3 or Flux (16 latent channels), which is not supported',
    )
  }
  return config
}

/**
 * @param openClip whether the tensors have OpenCLIP's names
 * @param transposed whether a projection is stored [width, projection width]
 */
export function deriveText(
  path: string,
  tensors: Tensors,
  openClip: boolean,
  transposed = false,
): { config: TextEncoderConfig; skip: number } {
  const probe = new Probe(path, tensors)
  const width = probe.channels('embeddings.token_embedding.weight', 1)
  const layers = probe.count(limits().textLayers, (i) => `encoder.layers.${i}.mlp.fc1.weight`)
  if (layers === 0) throw badFormat(path, 'tensor encoder.layers.0.mlp.fc1.weight is missing')
  if (width % 64 !== 0)
    throw unsupported(path, `the number of attention heads of a width of ${width} is unknown: ${HINT}`)
  // Stable Diffusion 2 uses the output of the penultimate layer of 24. Files that lack the last layer exist under the
  // names of both OpenCLIP and transformers.
  const gelu = openClip || width === 1024 || width === BIG_G_WIDTH
  const skip = width === 1024 ? Number(layers === 24) : Number(openClip)
  const config: TextEncoderConfig = {
    vocabSize: probe.size('embeddings.token_embedding.weight', 0, 1, limits().vocabulary, 2),
    width,
    layers,
    heads: width / 64,
    intermediate: probe.size('encoder.layers.0.mlp.fc1.weight', 0, 1, limits().feedForward, 2),
    maxPositions: probe.size('embeddings.position_embedding.weight', 0, 1, limits().positions, 2),
    activation: gelu ? 'gelu' : 'quick_gelu',
    layerNormEps: 1e-5,
    ...(probe.has(PROJECTION) && {
      projectionWidth: probe.channels(PROJECTION, transposed ? 1 : 0),
      ...(transposed && { projectionTransposed: true }),
    }),
  }
  return { config, skip: Math.min(skip, layers - 1) }
}

/** The width of OpenCLIP ViT-bigG, the second text encoder of Stable Diffusion XL. */
export const BIG_G_WIDTH = 1280
