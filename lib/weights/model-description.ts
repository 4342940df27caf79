import type { ModelSource, TextEncoderConfig, TinyVaeConfig, UnetConfig, VaeConfig } from '../native.js'
import type { PredictionType } from '../types.js'

/** What a stored component is and where its weights lie. */
export interface ComponentDescription<Config> {
  config: Config
  source: ModelSource
}

/** The training schedule, and how the model's authors sample from it (fields of diffusers' scheduler_config.json). */
export interface ScheduleDescription {
  /** diffusers' class name, where the model names one: 'PNDMScheduler', … */
  className?: string
  trainTimesteps: number
  betaStart: number
  betaEnd: number
  betaSchedule: 'linear' | 'scaled_linear' | 'squaredcos_cap_v2'
  trainedBetas?: number[]
  predictionType: PredictionType
  timestepSpacing?: 'leading' | 'linspace' | 'trailing'
  stepsOffset: number
  setAlphaToOne: boolean
  rescaleBetasZeroSnr: boolean
  clipSample: boolean
}

/** A tokenizer. Without texts it has the built-in CLIP vocabulary. */
export interface TokenizerDescription {
  /** vocab.json and merges.txt, or a whole tokenizer.json. */
  vocab?: string
  merges?: string
  tokenizerJson?: string
  /** Length of one chunk, with begin and end tokens (77). */
  maxLength: number
  /** Token that fills a chunk up: '<|endoftext|>' (SD 1), '!' (SD 2). */
  padToken: string
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
