import { quote } from '../../quote.js'
import { unsupported } from '../formats/fail.js'
import type { Tensors } from '../component.js'

/**
 * Models of other families by tensor names that only they have, so that messages can say what a file is. The most
 * specific patterns come first.
 */
const UNSUPPORTED_MODELS: readonly (readonly [RegExp, string])[] = [
  [
    /^(lora_(unet|te)|lora_te\d)_|\.lora_(up|down|A|B)\.|\.lora\.(up|down)\./,
    'a LoRA, which modifies a model and is not one itself',
  ],
  [/\bmotion_modules\./, 'an AnimateDiff motion module'],
  [/^(control_model\.|controlnet_cond_embedding\.|controlnet_|input_hint_block\.)/, 'a ControlNet'],
  [/(^|\.)joint_blocks\.\d+\./, 'Stable Diffusion 3'],
  [/(^|\.)(double_blocks|single_blocks)\.\d+\./, 'Flux or a related model'],
  [/^text_encoders\.(clip_l|clip_g|t5xxl)\./, 'Stable Diffusion 3 or Flux'],
  [/(^|\.)(double_layers|single_layers)\.\d+\./, 'AuraFlow'],
  [/(^|\.)transformer_blocks\.\d+\.scale_shift_table$/, 'a diffusion transformer (PixArt, LTX, …)'],
  [
    /^(model\.diffusion_model\.|net\.)?(patchify_proj|x_embedder|cap_embedder|patch_embedding)\./,
    'a diffusion transformer',
  ],
  [/(^|\.)encoder\.block\.\d+\.layer\.\d+\.SelfAttention\./, 'a T5 text encoder'],
  [/^cond_stage_model\.transformer\.(token_emb|attn_layers)\./, 'latent diffusion with a BERT text encoder'],
  [/^(decoder|encoder)\.layers\.\d+\.(conv|weight)|^taesd_|^tae\./, 'a tiny autoencoder (TAESD)'],
  [/^(emb_params|string_to_param)|^clip_[lg]$/, 'a textual inversion embedding'],
  [/^(clip_txt_mapper|effnet_mapper|.*\.channelwise\.\d+)\./, 'Stable Cascade'],
  [/^blk\.\d+\.(attn|ffn)_|^token_embd\.|^model\.layers\.\d+\.self_attn\./, 'a language model'],
]

/** Throws UNSUPPORTED_MODEL if the tensor names are those of another family. It works in slices. */
export function* refuseUnsupportedModels(path: string, tensors: Tensors): Generator<void, void, void> {
  for (const [pattern, what] of UNSUPPORTED_MODELS) {
    let tried = 0
    for (const name of tensors.keys()) {
      if (++tried % 1024 === 0) yield
      if (!pattern.test(name)) continue
      throw unsupported(path, `this is ${what}, which is not supported (tensor ${quote(name)})`)
    }
  }
}
