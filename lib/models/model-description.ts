import type {
  ControlNetConfig,
  ImageEncoderConfig,
  ModelSource,
  TextEncoderConfig,
  TinyVaeConfig,
  UnetConfig,
  VaeConfig,
} from '../native.js'
import type { PixelStatistics, ScheduleDescription, TokenizerDescription } from '../types.js'

export type { ScheduleDescription, TokenizerDescription }

/** A stored component: its configuration and its weights. */
export interface ComponentDescription<Config> {
  config: Config
  source: ModelSource
}

/** A stored text encoder and its tokenizer. */
export interface TextEncoderDescription extends ComponentDescription<TextEncoderConfig> {
  /** Number of last layers that the model always skips: 1 if a file holds all layers of OpenCLIP's text encoder. */
  skip: number
  /** Whether hidden states go through the final norm. Default: true; those of SDXL's text encoders do not. */
  finalNorm?: boolean
  /** null: the built-in CLIP vocabulary. */
  tokenizer: TokenizerDescription | null
}

/** A stored image encoder, and how its images are normalized. */
export interface ImageEncoderDescription extends ComponentDescription<ImageEncoderConfig> {
  statistics: PixelStatistics
}

/** What a model that draws variations of images (unCLIP) does to their embeddings. */
export interface UnclipDescription {
  /** Makes the embeddings. Files without one need them from the caller. */
  imageEncoder?: ImageEncoderDescription
  /** Of each number of the embeddings in the training: noise is added to normalized ones. Undefined: not known. */
  statistics?: { mean: number[]; deviation: number[] }
  /** The schedule by which embeddings get their noise. */
  schedule: ScheduleDescription
}

/** A model, as its files describe it. No weights have been read. */
export interface ModelDescription {
  path: string
  format: 'diffusers' | 'safetensors' | 'gguf' | 'pickle'
  /** A name for people: 'Stable Diffusion 1.x', 'Stable Diffusion 2.x', 'latent diffusion', … */
  architecture: string
  /** In the order in which the UNet's context joins their hidden states; empty if there is none. */
  textEncoders: TextEncoderDescription[]
  unet?: ComponentDescription<UnetConfig>
  vae?: ComponentDescription<VaeConfig> & { scalingFactor: number }
  /** A file or folder with a ControlNet has no other components, unless the model that it guides is in there, too. */
  controlNet?: ComponentDescription<ControlNetConfig> & {
    /** Whether its pictures have blue first. */
    bgr?: boolean
  }
  /** A tiny autoencoder: a file of one, or of a model that has no other. */
  tinyVae?: ComponentDescription<TinyVaeConfig>
  schedule: ScheduleDescription
  /** The ×4 upscaler: the schedule by which the small image gets its noise, and the most that it can get, a timestep. */
  lowResolution?: { schedule: ScheduleDescription; maxNoiseLevel: number }
  /** A model that draws variations of images. */
  unclip?: UnclipDescription
  /**
   * Whether zeros stand for a negative prompt that is not given, instead of the encoded '' (diffusers'
   * force_zeros_for_empty_prompt).
   */
  zeroesEmptyNegative?: boolean
  /** Width and height in pixels that the model was trained at. */
  imageSize: number
  /**
   * Set if nothing in the files says what the UNet predicts: `schedule` and `imageSize` then assume v-prediction, and load()
   * finds out by an output of the UNet. These are the image sizes for either outcome.
   */
  assumedPrediction?: { imageSizes: { epsilon: number; v_prediction: number } }
  /** Every word of the captions that the model was trained on, in lower case; only small models list them. */
  trainedWords?: string[]
  /** The default guidance scale, if the files have one. */
  guidanceScale?: number
  /** Of tensors that the files have, and that the model does not use: one line for the file, or for each component. */
  unused?: string[]
  /** What the files ask for that is not supported, or that was assumed. */
  warnings?: string[]
}

/** Every component that a model's files have. */
export function storedComponents(model: ModelDescription): { source: ModelSource }[] {
  const { unet, vae, textEncoders, tinyVae, controlNet, unclip } = model
  const all = [unet, vae, ...textEncoders, tinyVae, controlNet, unclip?.imageEncoder]
  return all.filter((part) => part !== undefined)
}
