import { renameTensors, type Tensors } from '../component.js'
import { openClipLayer, splitFused } from './clip-layers.js'

/**
 * Renames an image encoder's tensors from transformers' names with `vision_model.` and OpenCLIP's (also OpenAI's own) to
 * those without the prefix.
 */

/** Makes the embedding. OpenCLIP stores it transposed, as `proj`. */
export const VISUAL_PROJECTION = 'visual_projection.weight'

/** Where image encoders are found in files, with the longest first. */
const PREFIXES = [
  'embedder.model.visual.',
  'embedder.visual.',
  'image_encoder.',
  'clip_vision.',
  'visual.',
  '',
]

/** The image encoder among the tensors of a file, under its own names; undefined if there is none. */
export function findImageEncoder(tensors: Tensors): { tensors: Tensors; openClip: boolean } | undefined {
  for (const prefix of PREFIXES) {
    const within = (name: string) => tensors.has(prefix + name)
    const openClip = within('class_embedding') && within('conv1.weight')
    const clip = within('vision_model.embeddings.class_embedding') || within('embeddings.class_embedding')
    if (!openClip && !clip) continue
    const found: Tensors = new Map()
    for (const [name, tensor] of tensors)
      if (name.startsWith(prefix)) found.set(name.slice(prefix.length), tensor)
    return { tensors: found, openClip }
  }
  return undefined
}

/** Parts of CLIP that do not encode images, and buffers. */
const UNUSED =
  /^((.*\.)?position_ids|logit_scale|attn_mask|text_model\..*|text_projection(\.weight)?|transformer\.resblocks\..*|token_embedding\.weight|positional_embedding|ln_final\..*)$/

/** From transformers' names. */
export function renameClipVision(paths: readonly string[], tensors: Tensors): Tensors {
  return renameTensors(paths, tensors, (name) => {
    const short = name.replace(/^vision_model\./, '')
    return UNUSED.test(short) ? undefined : short
  })
}

/** From OpenCLIP's names below `visual.`. */
export function renameOpenClipVision(paths: readonly string[], tensors: Tensors): Tensors {
  return splitFused(paths, renameTensors(paths, tensors, openClipName))
}

function openClipName(name: string): string {
  if (name === 'proj') return VISUAL_PROJECTION
  if (name === 'class_embedding') return 'embeddings.class_embedding'
  if (name === 'positional_embedding') return 'embeddings.position_embedding.weight'
  if (name === 'conv1.weight') return 'embeddings.patch_embedding.weight'
  const layer = openClipLayer(name)
  if (layer !== undefined) return layer
  return name.replace(/^ln_pre\./, 'pre_layrnorm.').replace(/^ln_post\./, 'post_layernorm.')
}
