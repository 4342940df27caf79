import type { TinyVaeConfig } from '../../native.js'
import { renameTensors, type Tensors } from '../component.js'
import type { ConfigReader } from './config-reader.js'
import { badFormat, unsupported } from '../formats/fail.js'
import { limits } from './limits.js'

/**
 * Configurations and names of tiny autoencoders (TAESD). diffusers numbers the layers of the encoder and of the decoder
 * as in its nn.Sequential (`decoder.layers.2.conv.0.weight`). The original files have `decoder.3.conv.0.weight`, or
 * `3.conv.0.weight` with the encoder and decoder in separate files. Their decoder begins with a clamp, which has no
 * weights, so its numbers are one higher.
 */

const FIXED: readonly (readonly [key: string, value: unknown])[] = [
  ['act_fn', 'relu'],
  ['upsample_fn', 'nearest'],
  ['upsampling_scaling_factor', 2],
  ['scaling_factor', 1],
  ['shift_factor', 0],
]

/** From diffusers' config.json. */
export function tinyVaeConfig(c: ConfigReader): TinyVaeConfig {
  for (const [key, value] of FIXED) {
    const found = c.get(key)
    if (found !== undefined && found !== null && found !== value) throw c.refuse(key, String(value))
  }
  const blocks = (side: 'encoder' | 'decoder', fallback: number[]) => {
    const counts = c.integers(`num_${side}_blocks`, fallback, 0, limits().layersPerLevel)
    if (counts.length > limits().levels)
      throw c.fail(`num_${side}_blocks`, `list of at most ${limits().levels} levels`)
    const key = `${side}_block_out_channels`
    const widths = c.integers(key, counts.map(() => 64), 1, limits().channels, counts.length) // prettier-ignore
    return { counts, widths, key }
  }
  const encoder = blocks('encoder', [1, 3, 3, 3])
  const decoder = blocks('decoder', [3, 3, 3, 1])
  const width = decoder.widths[0]
  for (const { widths, key } of [encoder, decoder])
    if (widths.some((w) => w !== width)) throw c.refuse(key, `${width} at every level`)
  if (encoder.counts.length !== decoder.counts.length)
    throw c.fail('num_encoder_blocks', 'list as long as num_decoder_blocks')
  return {
    inChannels: c.integer('in_channels', 3, 1, limits().channels),
    outChannels: c.integer('out_channels', 3, 1, limits().channels),
    latentChannels: c.integer('latent_channels', 4, 1, limits().channels),
    width,
    encoderBlocks: encoder.counts,
    decoderBlocks: decoder.counts,
  }
}

const LAYER = /^(?:(encoder|decoder)\.)?(layers\.)?(\d{1,3})\.((?:conv\.\d\.)?(?:weight|bias))$/

/** Whether all names are those of numbered layers, with at least one residual block. */
export function isTinyVae(tensors: Tensors): boolean {
  const names = [...tensors.keys()]
  return (
    names.every((name) => LAYER.test(name)) && names.some((name) => /(^|\.)\d+\.conv\.4\.weight$/.test(name))
  )
}

/** Renames tensors to diffusers' names. */
export function renameTinyVae(paths: readonly string[], tensors: Tensors): Tensors {
  // In a file with one of the two, only the encoder has a layer 0.
  const half = tensors.has('0.weight') ? 'encoder' : 'decoder'
  return renameTensors(paths, tensors, (name) => {
    const match = LAYER.exec(name)
    if (!match) return name
    const [, side = half, diffusers, number, rest] = match
    const layer = side === 'decoder' && !diffusers ? Number(number) - 1 : Number(number)
    return `${side}.layers.${layer}.${rest}`
  })
}

/** Derives the configuration from the tensors. Convolutions without a bias change the resolution. */
export function deriveTinyVae(path: string, tensors: Tensors): TinyVaeConfig {
  const shape = (name: string) => {
    const tensor = tensors.get(name)
    if (!tensor) throw badFormat(path, `tensor ${name} is missing`)
    return tensor.shape
  }
  const first = shape('decoder.layers.0.weight')
  const decoder = countBlocks(path, tensors, 'decoder', 2)
  const encoder = tensors.has('encoder.layers.0.weight')
    ? countBlocks(path, tensors, 'encoder', 1)
    : undefined
  const bounded = (size: number | undefined) => {
    if (size !== undefined && size >= 1 && size <= limits().channels) return size
    throw badFormat(path, `tensor decoder.layers.0.weight: expected 4 dimensions, found [${first}]`)
  }
  return {
    inChannels: encoder ? bounded(shape('encoder.layers.0.weight')[1]) : 3,
    outChannels: bounded(shape(`decoder.layers.${decoder.last}.weight`)[0]),
    latentChannels: bounded(first[1]),
    width: bounded(first[0]),
    encoderBlocks: encoder?.blocks ?? [],
    decoderBlocks: decoder.blocks,
  }
}

function countBlocks(path: string, tensors: Tensors, side: 'encoder' | 'decoder', begin: number) {
  const blocks = [0]
  const has = (layer: number, part: string) => tensors.has(`${side}.layers.${layer}.${part}`)
  for (let layer = begin; layer < 1000; layer++) {
    if (has(layer, 'conv.0.weight')) blocks[blocks.length - 1]++
    else if (has(layer, 'weight') && has(layer, 'bias')) {
      if (blocks.length <= limits().levels) return { blocks, last: layer }
      break
    } else if (has(layer, 'weight')) blocks.push(0)
    // The decoder's upsampling has a number but no weights.
    else if (side === 'encoder' || !has(layer + 1, 'weight')) break
  }
  throw unsupported(path, `expected the ${side} of a tiny autoencoder to end with a convolution, found none`)
}
