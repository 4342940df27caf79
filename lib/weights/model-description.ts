import type { ModelSource, TextEncoderConfig, TinyVaeConfig, UnetConfig, VaeConfig } from '../native.js'
import type { PredictionType } from '../types.js'

/** A stored component: its configuration and its weights. */
export interface ComponentDescription<Config> {
  config: Config
  source: ModelSource
}

/** The training schedule and the authors' sampling method: the fields of diffusers' scheduler_config.json. */
export interface ScheduleDescription {
  /** The class name in diffusers, if the model's files have it: 'PNDMScheduler', … */
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

/** A tokenizer. Without texts it uses the built-in CLIP vocabulary. */
export interface TokenizerDescription {
  /** The texts of vocab.json and merges.txt, or of tokenizer.json. */
  vocab?: string
  merges?: string
  tokenizerJson?: string
  /** Length of one chunk, including the begin and end tokens (77). */
  maxLength: number
  /** Token that pads chunks: '<|endoftext|>' (SD 1), '!' (SD 2). */
  padToken: string
}

/** A stored text encoder and its tokenizer. */
export interface TextEncoderDescription extends ComponentDescription<TextEncoderConfig> {
  /** Number of last layers that the model always skips: 1 if a file holds all layers of OpenCLIP's text encoder. */
  skip: number
  /** null: the built-in CLIP vocabulary. */
  tokenizer: TokenizerDescription | null
}

/** A model, as its files describe it. No weights have been read. */
export interface ModelDescription {
  path: string
  format: 'diffusers' | 'safetensors' | 'gguf'
  /** A name for people: 'Stable Diffusion 1.x', 'Stable Diffusion 2.x', 'latent diffusion', … */
  architecture: string
  /** In the order in which the UNet's context joins their hidden states; empty if there is none. */
  textEncoders: TextEncoderDescription[]
  unet?: ComponentDescription<UnetConfig>
  vae?: ComponentDescription<VaeConfig> & { scalingFactor: number }
  /** A file or folder with a tiny autoencoder has no other components. */
  tinyVae?: ComponentDescription<TinyVaeConfig>
  schedule: ScheduleDescription
  /** Width and height in pixels that the model was trained at. */
  imageSize: number
  /** Every word of the captions that the model was trained on, in lower case; only small models list them. */
  trainedWords?: string[]
  /** The default guidance scale, if the files have one. */
  guidanceScale?: number
}
