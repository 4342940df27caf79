import type { ModelSource, TextEncoderConfig, TinyVaeConfig, UnetConfig, VaeConfig } from '../native.js'
import type { ScheduleDescription, TokenizerDescription } from '../types.js'

export type { ScheduleDescription, TokenizerDescription }

/** What a stored component is and where its weights lie. */
export interface ComponentDescription<Config> {
  config: Config
  source: ModelSource
}

/** A text encoder and the tokenizer of its ids. */
export interface TextEncoderDescription extends ComponentDescription<TextEncoderConfig> {
  /** Last layers that are left out by default: 1 for OpenCLIP's text encoder stored whole. */
  skip: number
  /** null: the built-in CLIP vocabulary. */
  tokenizer: TokenizerDescription | null
}

/** Everything that a model's files say, before any weight is read. */
export interface ModelDescription {
  path: string
  format: 'diffusers' | 'safetensors' | 'gguf'
  /** For people: 'Stable Diffusion 1.x', 'Stable Diffusion 2.x', 'latent diffusion', … */
  architecture: string
  /** In the order in which the UNet's context joins their hidden states; empty where there is none. */
  textEncoders: TextEncoderDescription[]
  unet?: ComponentDescription<UnetConfig>
  vae?: ComponentDescription<VaeConfig> & { scalingFactor: number }
  /** A file or folder that holds a tiny autoencoder holds nothing else. */
  tinyVae?: ComponentDescription<TinyVaeConfig>
  schedule: ScheduleDescription
  /** Pixels a side that the model was trained at. */
  imageSize: number
  /** Every word of the captions that the model was trained on, in lower case; only small models list them. */
  trainedWords?: string[]
  /** What its makers draw with, where they say so. */
  guidanceScale?: number
}
