import type { ControlNetConfig } from '../../native.js'
import type { Tensors } from '../component.js'
import { unsupported } from '../formats/fail.js'
import { ConfigReader } from './config-reader.js'
import { deriveUnet, Probe } from './derive.js'
import { unetConfig } from './diffusers-config.js'
import { isUnion } from '../names/control-net.js'
import { limits } from './limits.js'

const EMBEDDING = 'controlnet_cond_embedding'

/** Refuses a union ControlNet that embeds no sizes: it embeds kinds of pictures as numbers of the same width. */
function checkUnion(path: string, config: ControlNetConfig): ControlNetConfig {
  if (config.union && !config.unet.added)
    throw unsupported(
      path,
      'ControlNets for several kinds of pictures (union) are supported for Stable Diffusion XL only',
    )
  return config
}

/** The configuration of the layers that embed the picture, from diffusers' names and the shapes of tensors. */
export function deriveImageLayers(
  path: string,
  tensors: Tensors,
): Pick<ControlNetConfig, 'imageChannels' | 'imageWidths'> {
  const probe = new Probe(path, tensors)
  const blocks = probe.count(2 * limits().levels, (i) => `${EMBEDDING}.blocks.${i}.weight`)
  const imageWidths = [probe.channels(`${EMBEDDING}.conv_in.weight`, 0)]
  for (let i = 1; i < blocks; i += 2) imageWidths.push(probe.channels(`${EMBEDDING}.blocks.${i}.weight`, 0))
  return { imageChannels: probe.channels(`${EMBEDDING}.conv_in.weight`, 1), imageWidths }
}

/** Derives the configuration from diffusers' names and the shapes of tensors. */
export function deriveControlNet(path: string, tensors: Tensors): ControlNetConfig {
  const probe = new Probe(path, tensors)
  return checkUnion(path, {
    ...deriveImageLayers(path, tensors),
    unet: deriveUnet(path, tensors),
    ...(isUnion(tensors) && {
      union: {
        types: probe.size('task_embedding', 0, 1, limits().controlTypes, 2),
        layers: probe.count(limits().textLayers, (i) => `transformer_layes.${i}.ln_1.weight`),
      },
    }),
  })
}

/** What config.json says of a ControlNet for several kinds of pictures; undefined for any other. */
function readUnion(c: ConfigReader): ControlNetConfig['union'] {
  // The code that the published ones were trained with has another name for the class.
  const known = ['ControlNetUnionModel', 'ControlNetModel_Union'].includes(c.string('_class_name'))
  if (!known && !c.has('num_control_type')) return undefined
  return {
    types: c.integer('num_control_type', 6, 1, limits().controlTypes),
    layers: c.integer('num_trans_layer', 1, 0, limits().textLayers),
  }
}

/** Converts config.json of ControlNetModel, which has the keys of UNet2DConditionModel for the encoder. */
export function controlNetConfig(c: ConfigReader): { config: ControlNetConfig; bgr: boolean } {
  if (c.get('global_pool_conditions') === true)
    throw unsupported(c.path, 'ControlNets with global_pool_conditions (shuffle) are not supported')
  const down = c.strings('down_block_types', [
    'CrossAttnDownBlock2D',
    'CrossAttnDownBlock2D',
    'CrossAttnDownBlock2D',
    'DownBlock2D',
  ])
  const union = readUnion(c)
  const encoder = Object.fromEntries(c.keys().map((key) => [key, c.get(key)]))
  const unet = unetConfig(
    ConfigReader.of(
      c.path,
      {
        ...encoder,
        down_block_types: down,
        up_block_types: down.map((name) => name.replace('Down', 'Up')).reverse(),
      },
      '',
    ),
  )
  return {
    config: checkUnion(c.path, {
      unet,
      imageChannels: c.integer('conditioning_channels', 3, 1, limits().channels),
      imageWidths: c.integers(
        'conditioning_embedding_out_channels',
        union ? [48, 96, 192, 384] : [16, 32, 96, 256],
        1,
        limits().channels,
      ),
      ...(union && { union }),
    }),
    bgr: c.choice('controlnet_conditioning_channel_order', ['rgb', 'bgr'], 'rgb') === 'bgr',
  }
}
