/** Layers of CLIP's transformers, which its text and its image encoder have in common. */
import { addTensor, type Tensors } from '../component.js'
import { rowsOf } from './fused.js'

const OPEN_CLIP: Readonly<Record<string, string>> = {
  ln_1: 'layer_norm1',
  ln_2: 'layer_norm2',
  'attn.out_proj': 'self_attn.out_proj',
  'mlp.c_fc': 'mlp.fc1',
  'mlp.c_proj': 'mlp.fc2',
}

/** The name of a layer's tensor from OpenCLIP's; undefined: it is none of a layer. */
export function openClipLayer(name: string): string | undefined {
  const fused = /^transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)$/.exec(name)
  if (fused) return `encoder.layers.${fused[1]}.self_attn.in_proj.${fused[2]}`
  const block = /^transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias)$/.exec(name)
  if (!block || !Object.hasOwn(OPEN_CLIP, block[2])) return undefined
  return `encoder.layers.${block[1]}.${OPEN_CLIP[block[2]]}.${block[3]}`
}

/**
 * Splits fused query, key and value matrices [3·width, width]: their rows are contiguous, so nothing is copied.
 */
export function splitFused(paths: readonly string[], tensors: Tensors): Tensors {
  const split: Tensors = new Map()
  for (const [name, tensor] of tensors) {
    const match = /^(encoder\.layers\.\d+\.self_attn\.)in_proj[._](weight|bias)$/.exec(name)
    if (!match) {
      addTensor(paths, split, name, tensor)
      continue
    }
    for (const [i, part] of ['q_proj', 'k_proj', 'v_proj'].entries()) {
      addTensor(
        paths,
        split,
        `${match[1]}${part}.${match[2]}`,
        rowsOf(paths, tensor, i, ['query', 'key', 'value']),
      )
    }
  }
  return split
}
