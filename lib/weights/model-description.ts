import type { ModelSource, TextEncoderConfig, TinyVaeConfig, UnetConfig, VaeConfig } from '../native.js'
import type { ScheduleDescription, TokenizerDescription } from '../types.js'

export type { ScheduleDescription, TokenizerDescription }

/** What a stored component is and where its weights lie. */
export interface ComponentDescription<Config> {
  config: Config
  source: ModelSource
}

/** Everything that a model's files say, before any weight is read. */
export interface ModelDescription {
  path: string
  format: 'diffusers' | 'safetensors' | 'gguf'
  /** For people: 'Stable Diffusion 1.x', 'Stable Diffusion 2.x', 'latent diffusion', … */
  architecture: string
  /** skip: last layers left out by default (OpenCLIP stored whole: 1). */
  textEncoder?: ComponentDescription<TextEncoderConfig> & { skip: number }
  unet?: ComponentDescription<UnetConfig>
  vae?: ComponentDescription<VaeConfig> & { scalingFactor: number }
  /** A file or folder that holds a tiny autoencoder holds nothing else. */
  tinyVae?: ComponentDescription<TinyVaeConfig>
  tokenizer: TokenizerDescription | null
  schedule: ScheduleDescription
  /** Pixels a side that the model was trained at. */
  imageSize: number
  /** Every word of the captions it was trained on, in lower case, where that is known: of small models. */
  words?: string[]
  /** What its makers draw with, where they say so. */
  guidanceScale?: number
}
