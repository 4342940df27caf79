import { addTensor, renameTensors, type Tensors } from '../component.js'
import { rowsOf } from './fused.js'

/**
 * Renames the text encoder's tensors from transformers' names with `text_model.` and OpenCLIP's to those of
 * transformers 5.
 */

export function isOpenClip(tensors: Tensors): boolean {
  return tensors.has('token_embedding.weight') && tensors.has('positional_embedding')
}

export function isClipText(tensors: Tensors): boolean {
  return ['', 'text_model.'].some((prefix) => tensors.has(`${prefix}embeddings.token_embedding.weight`))
}

/** Parts of CLIP that a diffusion model does not use, and buffers, also those that conversions leave behind. */
const UNUSED =
  /^((.*\.)?position_ids|logit_scale|attn_mask|vision_model\..*|visual\..*|visual_projection\.weight)$/

/** Makes the pooled output. OpenCLIP stores it transposed, and names it without `.weight`. */
export const PROJECTION = 'text_projection.weight'

/** Whether the projection among these tensors is stored [width, projection width]. */
export function isProjectionTransposed(tensors: Tensors): boolean {
  return tensors.get(PROJECTION)?.name.endsWith('text_projection') === true
}

export function renameClipText(paths: readonly string[], tensors: Tensors): Tensors {
  const renamed = renameTensors(paths, tensors, (name) => {
    const short = name.replace(/^text_model\./, '')
    if (short === 'text_projection') return PROJECTION
    return UNUSED.test(short) ? undefined : short
  })
  return splitFused(paths, renamed)
}

const OPEN_CLIP: Readonly<Record<string, string>> = {
  ln_1: 'layer_norm1',
  ln_2: 'layer_norm2',
  'attn.out_proj': 'self_attn.out_proj',
  'mlp.c_fc': 'mlp.fc1',
  'mlp.c_proj': 'mlp.fc2',
}

export function renameOpenClip(paths: readonly string[], tensors: Tensors): Tensors {
  const renamed = renameTensors(paths, tensors, (name) => {
    if (UNUSED.test(name)) return undefined
    if (name === 'text_projection') return PROJECTION
    if (name === 'positional_embedding') return 'embeddings.position_embedding.weight'
    if (name === 'token_embedding.weight') return 'embeddings.token_embedding.weight'
    const fused = /^transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)$/.exec(name)
    if (fused) return `encoder.layers.${fused[1]}.self_attn.in_proj.${fused[2]}`
    const block = /^transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias)$/.exec(name)
    if (block && Object.hasOwn(OPEN_CLIP, block[2])) {
      return `encoder.layers.${block[1]}.${OPEN_CLIP[block[2]]}.${block[3]}`
    }
    return name.replace(/^ln_final\./, 'final_layer_norm.')
  })
  return splitFused(paths, renamed)
}

/**
 * Splits fused query, key and value matrices [3·width, width]: their rows are contiguous, so nothing is copied.
 */
function splitFused(paths: readonly string[], tensors: Tensors): Tensors {
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
