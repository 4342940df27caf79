import type { ControlNetConfig } from '../../native.js'
import type { Tensors } from '../component.js'
import { unsupported } from '../formats/fail.js'
import { ConfigReader } from './config-reader.js'
import { deriveUnet, Probe } from './derive.js'
import { unetConfig } from './diffusers-config.js'
import { limits } from './limits.js'

const EMBEDDING = 'controlnet_cond_embedding'

/** Derives the configuration from diffusers' names and the shapes of tensors. */
export function deriveControlNet(path: string, tensors: Tensors): ControlNetConfig {
  const probe = new Probe(path, tensors)
  const blocks = probe.count(2 * limits().levels, (i) => `${EMBEDDING}.blocks.${i}.weight`)
  const imageWidths = [probe.channels(`${EMBEDDING}.conv_in.weight`, 0)]
  for (let i = 1; i < blocks; i += 2) imageWidths.push(probe.channels(`${EMBEDDING}.blocks.${i}.weight`, 0))
  return {
    unet: deriveUnet(path, tensors),
    imageChannels: probe.channels(`${EMBEDDING}.conv_in.weight`, 1),
    imageWidths,
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
    config: {
      unet,
      imageChannels: c.integer('conditioning_channels', 3, 1, limits().channels),
      imageWidths: c.integers('conditioning_embedding_out_channels', [16, 32, 96, 256], 1, limits().channels),
    },
    bgr: c.choice('controlnet_conditioning_channel_order', ['rgb', 'bgr'], 'rgb') === 'bgr',
  }
}
