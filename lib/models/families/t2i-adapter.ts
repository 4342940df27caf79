/** The configuration of a T2I-Adapter, from config.json or from the shapes of its tensors. */
import type { T2iAdapterConfig } from '../../native.js'
import type { Tensors } from '../component.js'
import { badFormat, unsupported } from '../formats/fail.js'
import type { ConfigReader } from './config-reader.js'
import { Probe } from './derive.js'
import { limits } from './limits.js'

/** Each feature but the first has half the size of the one before. */
const halvesOf = (count: number) => Array.from({ length: count }, (_, i) => (i === 0 ? 0 : 1))
/** For Stable Diffusion XL, whose first level is left out of the features' sizes. */
const XL_HALVES = [0, 0, 1, 0]
/** Pixels along one side that become one of the first feature. */
const FACTOR = 8
const XL_FACTOR = 16

/** @throws {DiffusionError} UNSUPPORTED_MODEL: the numbers of channels are not those of a published kind */
export function deriveT2iAdapter(path: string, tensors: Tensors): T2iAdapterConfig {
  const probe = new Probe(path, tensors)
  const light = tensors.has('body.0.out_conv.weight')
  const first = light ? 'body.0.in_conv.weight' : 'conv_in.weight'
  const inputs = probe.channels(first, 1)
  const factor = [FACTOR, XL_FACTOR].find((side) => inputs === side ** 2 || inputs === 3 * side ** 2)
  if (factor === undefined)
    throw unsupported(
      path,
      `expected a T2I-Adapter with 64, 192, 256 or 768 input channels, found ${inputs}: use its folder with config.json`,
    )
  const levels = probe.count(limits().levels + 2, (i) => `body.${i}.resnets.0.block1.weight`)
  const channels = Array.from({ length: levels }, (_, i) =>
    probe.channels(light ? `body.${i}.out_conv.weight` : `body.${i}.resnets.0.block1.weight`, 0),
  )
  const xl = factor === XL_FACTOR
  if (xl && channels.length !== XL_HALVES.length)
    throw badFormat(path, `expected ${XL_HALVES.length} features of a T2I-Adapter, found ${channels.length}`)
  return {
    imageChannels: inputs / factor ** 2,
    factor,
    channels,
    halves: xl ? XL_HALVES : halvesOf(channels.length),
    blocks: probe.count(limits().layersPerLevel + 1, (i) => `body.0.resnets.${i}.block1.weight`),
    light,
  }
}

/** Converts config.json of T2IAdapter. */
export function t2iAdapterConfig(c: ConfigReader): T2iAdapterConfig {
  const type = c.choice('adapter_type', ['full_adapter', 'full_adapter_xl', 'light_adapter'], 'full_adapter')
  const given = c.integers('channels', [320, 640, 1280, 1280], 1, limits().channels)
  // diffusers' light adapters have a last feature that is not listed.
  const channels = type === 'light_adapter' ? [...given, given[given.length - 1]] : given
  const xl = type === 'full_adapter_xl'
  if (xl && channels.length !== XL_HALVES.length)
    throw c.fail('channels', `list of ${XL_HALVES.length} integers for ${type}`)
  return {
    imageChannels: c.integer('in_channels', 3, 1, limits().channels),
    factor: c.integer('downscale_factor', xl ? XL_FACTOR : FACTOR, 1, MAX_FACTOR),
    channels,
    halves: xl ? XL_HALVES : halvesOf(channels.length),
    blocks: c.integer('num_res_blocks', 2, 1, limits().layersPerLevel),
    light: type === 'light_adapter',
  }
}

const MAX_FACTOR = 64
