import { renameTensors, type Tensors } from '../component.js'

/**
 * Renames the autoencoder's tensors from the original names (`encoder.down.0.block.1`) and old diffusers' to new
 * diffusers'.
 */

const MIDDLE: readonly (readonly [RegExp, string])[] = [
  [/\.mid\.block_1\./, '.mid_block.resnets.0.'],
  [/\.mid\.block_2\./, '.mid_block.resnets.1.'],
  [/\.mid\.attn_1\./, '.mid_block.attentions.0.'],
]

/** Names inside the attention: the original ones, and those of diffusers before 0.15. */
const ATTENTION: Readonly<Record<string, string>> = {
  norm: 'group_norm',
  q: 'to_q',
  k: 'to_k',
  v: 'to_v',
  proj_out: 'to_out.0',
  query: 'to_q',
  key: 'to_k',
  value: 'to_v',
  proj_attn: 'to_out.0',
}

export function isVae(tensors: Tensors): boolean {
  return tensors.has('decoder.conv_in.weight') && tensors.has('decoder.conv_out.weight')
}

export function renameVae(paths: readonly string[], tensors: Tensors): Tensors {
  let levels = 0
  for (const name of tensors.keys()) {
    const match = /^decoder\.up\.(\d{1,3})\./.exec(name)
    if (match) levels = Math.max(levels, Number(match[1]) + 1)
  }
  return renameTensors(paths, tensors, (name) => renameOne(name, levels))
}

function renameOne(name: string, levels: number): string | undefined {
  // The discriminator and averaged weights of the training.
  if (/^(loss|model_ema)\./.test(name)) return undefined
  let renamed = name
    .replace(/^encoder\.down\.(\d+)\.block\.(\d+)\./, 'encoder.down_blocks.$1.resnets.$2.')
    .replace(/^encoder\.down\.(\d+)\.downsample\./, 'encoder.down_blocks.$1.downsamplers.0.')
    // The original numbers the decoder's levels from the highest resolution, diffusers in the order of the data flow.
    .replace(
      /^decoder\.up\.(\d{1,3})\.block\.(\d+)\./,
      (_, up, n) => `decoder.up_blocks.${levels - 1 - Number(up)}.resnets.${n}.`,
    )
    .replace(
      /^decoder\.up\.(\d{1,3})\.upsample\./,
      (_, up) => `decoder.up_blocks.${levels - 1 - Number(up)}.upsamplers.0.`,
    )
    .replace(/^(encoder|decoder)\.norm_out\./, '$1.conv_norm_out.')
    .replace('.nin_shortcut.', '.conv_shortcut.')
  for (const [pattern, replacement] of MIDDLE) renamed = renamed.replace(pattern, replacement)
  return renamed.replace(
    /(\.attentions\.\d+\.)([a-z_]+)(?=\.(weight|bias)$)/,
    (whole, start: string, part: string) =>
      Object.hasOwn(ATTENTION, part) ? start + ATTENTION[part] : whole,
  )
}
