import { renameTensors, type Tensors } from '../component.js'
import { openClipLayer, splitFused } from './clip-layers.js'

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

export function renameOpenClip(paths: readonly string[], tensors: Tensors): Tensors {
  const renamed = renameTensors(paths, tensors, (name) => {
    if (UNUSED.test(name)) return undefined
    if (name === 'text_projection') return PROJECTION
    if (name === 'positional_embedding') return 'embeddings.position_embedding.weight'
    if (name === 'token_embedding.weight') return 'embeddings.token_embedding.weight'
    return openClipLayer(name) ?? name.replace(/^ln_final\./, 'final_layer_norm.')
  })
  return splitFused(paths, renamed)
}
