import { resolve } from 'node:path'
import type { ControlLlliteConfig, UnetConfig } from '../native.js'
import { DiffusionError } from '../errors.js'
import { quote } from '../quote.js'
import { matchTensors, renameTensors, type Tensors } from './component.js'
import { Probe } from './families/derive.js'
import { limits } from './families/limits.js'
import { requiredTensors } from './families/required-tensors.js'
import { badFormat, unsupported } from './formats/fail.js'
import { openTensorFile } from './index.js'
import type { ComponentDescription, ModelDescription } from './model-description.js'
import { originalUnetStems } from './names/unet.js'
import { isFolder } from './tokenizer-files.js'

/** A stored ControlLLLite. */
export type ControlLlliteDescription = ComponentDescription<ControlLlliteConfig>

const PREFIX = 'lllite_unet_'

/** The projections that can have a network, by their names in files and in the engine. */
const PROJECTIONS = [
  ['attn1_to_q', 'queries'],
  ['attn1_to_k', 'keys'],
  ['attn1_to_v', 'values'],
  ['attn2_to_q', 'cross_queries'],
] as const

/** A transformer block of a UNet, in the engine's order. */
interface Block {
  /** In diffusers' names. */
  name: string
  level: number
}

/** A projection of the model that a network belongs to. */
interface Place {
  block: number
  projection: (typeof PROJECTIONS)[number][1]
}

/**
 * Describes a ControlLLLite (kohya's `lllite_unet_….safetensors`): networks for projections of this model's attentions.
 *
 * @returns undefined if the file is something else
 * @throws {DiffusionError} MODEL_NOT_FOUND, MODEL_FORMAT, IO; MODEL_SHAPE; UNSUPPORTED_MODEL: it was made for another
 *   model, or has networks for other layers
 */
export async function openControlLllite(
  path: string,
  { unet, vae, tinyVae }: ModelDescription & Required<Pick<ModelDescription, 'unet'>>,
): Promise<ControlLlliteDescription | undefined> {
  if (await isFolder(path)) return undefined
  const file = await openTensorFile(path)
  if (![...file.tensors.keys()].some((name) => name.startsWith(PREFIX))) return undefined
  const blocks = blocksOf(unet.config)
  const places = placesOf(
    blocks,
    unet.source.tensors.map(({ name }) => name),
  )
  const tensors = renameTensors([path], file.tensors, (name) => canonicalName(path, name, places))
  const levels = vae ? vae.config.blockChannels : tinyVae!.config.decoderBlocks
  const config = deriveConfig(path, tensors, blocks, unet.config, 2 ** (levels.length - 1))
  const source = matchTensors(path, [file], tensors, requiredTensors(path, 'controlLllite', config), true)
  source.files = source.files.map((one) => resolve(one))
  return { config, source }
}

/** All transformer blocks of the UNet: encoder levels, middle block, decoder. */
function blocksOf({
  blockChannels,
  layersPerBlock,
  downTransformerDepth,
  upTransformerDepth,
  midTransformerDepth,
}: UnetConfig): Block[] {
  const blocks: Block[] = []
  const add = (attention: string, depth: number, level: number) => {
    for (let i = 0; i < depth; i++) blocks.push({ name: `${attention}.transformer_blocks.${i}`, level })
  }
  const depthOf = (depths: number | number[], layer: number) =>
    typeof depths === 'number' ? depths : depths[layer]
  const last = blockChannels.length - 1
  for (const [level, layers] of layersPerBlock.entries())
    for (let i = 0; i < layers; i++)
      add(`down_blocks.${level}.attentions.${i}`, depthOf(downTransformerDepth[level], i), level)
  add('mid_block.attentions.0', midTransformerDepth, last)
  for (let level = last; level >= 0; level--)
    for (let i = 0; i <= layersPerBlock[level]; i++)
      add(`up_blocks.${last - level}.attentions.${i}`, depthOf(upTransformerDepth[level], i), level)
  return blocks
}

/** Places by what files call them, in the original names and in diffusers', with underscores. */
function placesOf(blocks: readonly Block[], names: readonly string[]): Map<string, Place> {
  const stems = originalUnetStems(names.map((name) => name.replace(/\.(weight|bias)$/, '')))
  const places = new Map<string, Place>()
  for (const [block, { name }] of blocks.entries())
    for (const [part, projection] of PROJECTIONS) {
      const stem = `${name}.${part.replace('_', '.')}`
      for (const known of [stem, stems.get(stem)])
        if (known !== undefined) places.set(known.replaceAll('.', '_'), { block, projection })
    }
  return places
}

function canonicalName(path: string, name: string, places: ReadonlyMap<string, Place>): string {
  const [, stem, rest] = /^lllite_unet_([^.]+)\.(.+)$/.exec(name) ?? []
  const place = stem === undefined ? undefined : places.get(stem)
  if (!place)
    throw unsupported(
      path,
      `tensor ${quote(name, 60)} of this ControlLLLite belongs to no projection of attentions in this model: it was made for another one, or changes other layers`,
    )
  return `${place.block}.${place.projection}.${rest}`
}

/** @param factor pixels for each latent, along one side */
function deriveConfig(
  path: string,
  tensors: Tensors,
  blocks: readonly Block[],
  { blockChannels, onlyCrossAttention }: UnetConfig,
  factor: number,
): ControlLlliteConfig {
  const probe = new Probe(path, tensors)
  const found = blocks.flatMap(({ level }, block) => {
    const has = PROJECTIONS.map(([, name]) => probe.has(`${block}.${name}.down.0.weight`))
    const first = PROJECTIONS.find((_, i) => has[i])?.[1]
    return first === undefined ? [] : [{ block, level, has, first }]
  })
  if (found.length === 0) throw badFormat(path, 'expected the tensors of a ControlLLLite, found none whole')
  if (onlyCrossAttention?.some((only) => only === 1))
    throw unsupported(path, 'this ControlLLLite was made for another model: expected one of self-attentions')
  const [{ block, first }] = found
  const stem = `${block}.${first}`
  const width = probe.channels(`${stem}.down.0.weight`, 0)
  return {
    imageChannels: 3,
    conditionWidth: probe.channels(`${stem}.mid.0.weight`, 1) - width,
    width,
    blocks: found.map(({ block, level, has, first }) => {
      const name = `${block}.${first}`
      const wanted = blockChannels[level]
      const channels = probe.channels(`${name}.down.0.weight`, 1)
      const kernels = kernelsOf(probe, name)
      const pixels = kernels.reduce((product, kernel) => product * kernel, 1)
      if (channels !== wanted || pixels !== factor * 2 ** level)
        throw new DiffusionError(
          'UNSUPPORTED_MODEL',
          `${path}: this ControlLLLite was made for another model: expected attentions of ${wanted} channels and ` +
            `${factor * 2 ** level} pixels along one side, found ${channels} and ${pixels}`,
        )
      return { block, channels, projections: has.map(Number), kernels }
    }),
  }
}

/** The sides of the convolutions that embed the picture. */
function kernelsOf(probe: Probe, stem: string): number[] {
  const name = (i: number) => `${stem}.conditioning1.${2 * i}.weight`
  const count = probe.count(limits().levels, name)
  return Array.from({ length: count }, (_, i) => probe.size(name(i), 2, 1, 64, 4))
}
