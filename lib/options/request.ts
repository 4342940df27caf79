import type { CheckedLora } from './load.js'
import type { RngName } from '../random/index.js'
import type { SchedulerName, SchedulerOptions } from '../schedulers/index.js'
import type { StepEvent } from '../step-event.js'
import type { ExtraInput, Scheduler, Tensor } from '../types.js'
import type { Acceleration } from './acceleration.js'
import type { Conditions } from './conditions.js'
import type { ControlRequest, ControlTarget } from './controls.js'
import type { UnclipFacts } from './image-embeds.js'
import type { ImagePromptRequest, IpAdapterFacts } from './image-prompts.js'
import type { ImageInput } from './images.js'
import type { PresetName } from './presets.js'
import type { TilingOption } from './tiling.js'

/** What the checks must know about the model. */
export interface ModelFacts {
  /** Default width and height in pixels. */
  imageSize: number
  /** Pixels along one side for each latent. */
  factor: number
  /** Width and height are multiples of this. Default: factor. */
  sideMultiple?: number
  /** Whether the UNet can merge tokens. Default: true. */
  mergesTokens?: boolean
  latentChannels: number
  contextWidth: number
  /** Largest depth of deep features, see Unet.maxDepth. */
  maxDepth: number
  /** The model's own default guidance scale. */
  guidanceScale?: number
  /** The preset that the model's files tell. */
  preset?: PresetName
  /** Layers that clipSkip can leave out; −1: the model has no text encoder. */
  maxClipSkip: number
  /** Whether a tiny autoencoder was loaded. */
  tinyVae?: boolean
  /** Whether the model has no other autoencoder. */
  onlyTinyVae?: boolean
  /** Whether a refiner was loaded. */
  refines?: boolean
  /** Width of the pooled output that the UNet takes; undefined: it takes none. */
  pooledWidth?: number
  /** Whether the guidance scale is an input of the UNet (LCM), which then needs no unconditional prediction. */
  embedsGuidance?: boolean
  /** What the UNet takes beside the noisy latents. Default: 'none'. */
  extraInput?: ExtraInput
  /** Of a model that draws variations of images. */
  unclip?: UnclipFacts
  /** Largest noiseLevel of a model that enlarges or varies images. */
  maxNoiseLevel?: number
  /** The ControlNets, ControlLLLites and T2I-Adapters that were loaded. */
  controlNets?: readonly ControlTarget[]
  /** The IP-Adapters that were loaded. */
  ipAdapters?: readonly IpAdapterFacts[]
}

/** GenerateOptions with all defaults filled in. */
export interface GenerateRequest extends Acceleration, Conditions {
  prompts: string[]
  /** Prompts as they were given, where those of `prompts` have lost the names of LoRAs. */
  givenPrompts?: string[]
  loras: CheckedLora[]
  negativePrompts: string[]
  /** For the second text encoder; undefined: the same. */
  prompts2?: string[]
  negativePrompts2?: string[]
  /** Whether a negative prompt was given, which may be ''. */
  negativeGiven: boolean
  /** Whether the guidance scale is an input of the UNet. */
  embedsGuidance: boolean
  /** What the UNet takes beside the noisy latents; 'other' where extraChannels are given. */
  extraInput: ExtraInput
  /** Of options that were given and have no effect with this model. */
  withoutEffect: string[]
  controls: ControlRequest[]
  imagePrompts: ImagePromptRequest[]
  /** Images for each prompt. */
  batchSize: number
  /** Images in total. */
  count: number
  width: number
  height: number
  /** Whether width or height was given: then an input image is resized. */
  sizeGiven: boolean
  steps: number
  guidanceScale: number
  guidanceRescale: number
  seeds: (number | bigint)[]
  rng: RngName
  scheduler: SchedulerName | Scheduler | undefined
  schedulerOptions?: SchedulerOptions
  clipSkip: number
  weighting: boolean
  image?: ImageInput
  imageEmbeds?: Tensor
  strength: number
  mask?: ImageInput
  depth?: ImageInput
  extraChannels?: Tensor
  promptEmbeds?: Tensor
  negativePromptEmbeds?: Tensor
  latents?: Tensor
  outputType: 'image' | 'latents'
  decoder: 'full' | 'tiny'
  vaeTiling?: TilingOption
  signal?: AbortSignal
  onStep?: (event: StepEvent) => unknown
}
