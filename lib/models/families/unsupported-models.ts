import { quote } from '../../quote.js'
import { unsupported } from '../formats/fail.js'
import type { TensorFile } from '../formats/tensor-file.js'

/** A file that is no model of the UNet family, and what to do with it. */
interface OtherKind {
  pattern: RegExp
  what: string
  advice?: string
}

/** Files of other kinds by tensor names that only they have. The most specific patterns come first. */
const OTHER_KINDS: readonly OtherKind[] = [
  {
    pattern: /^(lora_(unet|te)|lora_te\d)_|\.lora_(up|down|A|B)\.|\.lora\.(up|down)\.|\.(hada_w1_a|lokr_w1)$/,
    what: 'a LoRA, which changes a model and is not one itself',
    advice: 'give it to load() as one of loras, or to the command line as --lora, with a model',
  },
  { pattern: /\bmotion_modules\./, what: 'an AnimateDiff motion module, which makes films of a model' },
  {
    pattern: /^lllite_unet_/,
    what: 'a ControlLLLite, which guides a model and is not one itself',
    advice: 'give it to load() as one of controlNets, or to the command line as --control, with a model',
  },
  {
    pattern: /^lora_controlnet$/,
    what: 'a control-LoRA, which makes a ControlNet of a model',
    advice: 'give it to load() as one of controlNets, or to the command line as --control, with a model',
  },
  { pattern: /^difference$/, what: 'a ControlNet that is stored as its difference to a UNet' },
  {
    pattern: /^(adapter\.)?body\.\d+\.(block\d|resnets|in_conv)\b/,
    what: 'a T2I-Adapter, which guides a model and is not one itself',
    advice: 'give it to load() as one of controlNets, or to the command line as --control, with a model',
  },
  {
    pattern: /^(image_proj|ip_adapter)\./,
    what: 'an IP-Adapter, which guides a model by images and is not one itself',
    advice: 'give it to load() as one of ipAdapters, or to the command line as --ip-adapter, with a model',
  },
  {
    pattern: /^(emb_params$|string_to_param\b)|^clip_[lg]$/,
    what: 'a textual inversion embedding, which gives a model a new word and is not one itself',
    advice: 'give it to load() as one of embeddings, or to the command line as --embedding, with a model',
  },
  {
    pattern: /^(model\.)?(conv_first\.|RRDB_trunk\.|body\.\d+\.rdb\d\.)/,
    what: 'an upscaler of images (ESRGAN)',
  },
  { pattern: /(^|\.)joint_blocks\.\d+\./, what: 'Stable Diffusion 3' },
  { pattern: /(^|\.)(double_blocks|single_blocks)\.\d+\./, what: 'Flux or a related model' },
  { pattern: /^text_encoders\.(clip_l|clip_g|t5xxl)\./, what: 'Stable Diffusion 3 or Flux' },
  { pattern: /(^|\.)(double_layers|single_layers)\.\d+\./, what: 'AuraFlow' },
  {
    pattern: /(^|\.)transformer_blocks\.\d+\.scale_shift_table$/,
    what: 'a diffusion transformer (PixArt, LTX, …)',
  },
  {
    pattern: /^(model\.diffusion_model\.|net\.)?(patchify_proj|x_embedder|cap_embedder|patch_embedding)\./,
    what: 'a diffusion transformer',
  },
  {
    pattern: /(^|\.)encoder\.block\.\d+\.layer\.\d+\.SelfAttention\./,
    what: 'a T5 text encoder, as Stable Diffusion 3 and Flux have it',
  },
  {
    pattern: /^cond_stage_model\.transformer\.(token_emb|attn_layers)\./,
    what: 'latent diffusion with a BERT text encoder',
  },
  {
    pattern: /^(decoder|encoder)\.layers\.\d+\.(conv|weight)|^taesd_|^tae\./,
    what: 'a tiny autoencoder (TAESD)',
  },
  { pattern: /^(clip_txt_mapper|effnet_mapper|.*\.channelwise\.\d+)\./, what: 'Stable Cascade' },
  {
    pattern: /^blk\.\d+\.(attn|ffn)_|^token_embd\.|^model\.layers\.\d+\.self_attn\./,
    what: 'a language model',
  },
]

/** What a file is by the names of its tensors, if it is of one of the other kinds: 'a LoRA, which …'. */
export function kindByNames(tensors: TensorFile['tensors']): string | undefined {
  return OTHER_KINDS.find(({ pattern }) => [...tensors.keys()].some((name) => pattern.test(name)))?.what
}

/** What `general.architecture` of GGUF files calls models of other families. */
const ARCHITECTURES: ReadonlyMap<unknown, string> = new Map([
  ['flux', 'Flux'],
  ['sd3', 'Stable Diffusion 3'],
  ['aura', 'AuraFlow'],
  ['hidream', 'HiDream'],
  ['cosmos', 'Cosmos'],
  ['ltxv', 'LTX-Video'],
  ['hyvid', 'HunyuanVideo'],
  ['wan', 'Wan'],
  ['lumina2', 'Lumina 2'],
  ['qwen_image', 'Qwen-Image'],
  ['t5', 'a T5 text encoder'],
  ['t5encoder', 'a T5 text encoder'],
  ['llama', 'a language model'],
  ['qwen2vl', 'a language model'],
  ['gemma2', 'a language model'],
])

/** Widths of the words of CLIP's text encoders. */
const WORD_WIDTHS = [768, 1024, 1280]

/** Throws UNSUPPORTED_MODEL if the file is of another kind than a model of the UNet family. It works in slices. */
export function* refuseUnsupportedModels({
  path,
  tensors,
  metadata,
}: Pick<TensorFile, 'path' | 'tensors' | 'metadata'>): Generator<void, void, void> {
  const refuse = (what: string, advice: string | undefined, why: string) =>
    unsupported(path, `this is ${what}: ${advice ?? 'node-diffusion does not support it'} (${why})`)
  for (const { pattern, what, advice } of OTHER_KINDS) {
    let tried = 0
    for (const name of tensors.keys()) {
      if (++tried % 1024 === 0) yield
      if (pattern.test(name)) throw refuse(what, advice, `tensor ${quote(name)}`)
    }
  }
  const architecture = ARCHITECTURES.get(metadata.get('general.architecture'))
  if (architecture !== undefined)
    throw refuse(
      architecture,
      undefined,
      `general.architecture ${quote(String(metadata.get('general.architecture')))}`,
    )
  // diffusers stores the vectors of a new word under the word itself.
  const [only] = tensors.values()
  if (tensors.size === 1 && only.shape.length <= 2 && WORD_WIDTHS.includes(only.shape.at(-1)!)) {
    const { what, advice } = OTHER_KINDS.find(({ what }) => what.includes('embedding'))!
    throw refuse(what, advice, `tensor ${quote(only.name)} of shape [${only.shape}]`)
  }
}
