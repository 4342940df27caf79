import type { TensorFile } from '../models/formats/tensor-file.js'

/** Layers that only one family of models has, and its name. */
const LAYERS: readonly (readonly [RegExp, string])[] = [
  [/(double|single)_blocks[._]\d|single_transformer_blocks/, 'FLUX'],
  [/joint_blocks|transformer[._].*(add_[qkv]_proj|context_embedder)/, 'Stable Diffusion 3'],
  [/^(lora_te2_|text_encoder_2\.)|conditioner\.embedders\.1/, 'Stable Diffusion XL'],
  [/caption_projection|adaln_single/, 'PixArt'],
]

/** Widths of the context that cross-attention reads. */
export const WIDTHS: ReadonlyMap<number, string> = new Map([
  [768, 'Stable Diffusion 1.x'],
  [1024, 'Stable Diffusion 2.x'],
  [1280, 'the refiner of Stable Diffusion XL'],
  [2048, 'Stable Diffusion XL'],
])

/** The family of models that a LoRA was trained for, by its layers, its shapes or what its trainer noted. */
export function familyOf({ tensors, metadata }: TensorFile): string | undefined {
  for (const name of tensors.keys()) {
    const layer = LAYERS.find(([pattern]) => pattern.test(name))
    if (layer) return layer[1]
  }
  for (const [name, { shape }] of tensors) {
    if (!/attn2.*to_[kv].*(down|lora_A|w1_b)/.test(name) || shape.length < 2) continue
    const family = WIDTHS.get(shape[1])
    if (family !== undefined) return family
  }
  const noted = metadata.get('ss_base_model_version') ?? metadata.get('modelspec.architecture')
  if (typeof noted !== 'string') return undefined
  if (/sdxl|xl-v1/.test(noted)) return 'Stable Diffusion XL'
  if (/v2|-2/.test(noted)) return 'Stable Diffusion 2.x'
  return /v1|-1/.test(noted) ? 'Stable Diffusion 1.x' : undefined
}
