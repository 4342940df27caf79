import type { AdapterReport } from '../adapters/index.js'
import type { LowResolution } from '../models/families/upscaler.js'
import type { SchedulerName } from '../schedulers/index.js'
import type { Tokenizer } from '../prompt/tokenizer.js'
import type { ScheduleDescription } from '../types.js'
import type { AutoencoderKL } from './autoencoder.js'
import type { Refiner } from './refiner.js'
import type { ControlModel } from './controls.js'
import type { IpAdapter } from './ip-adapter.js'
import type { TextEncoder } from './text-encoder.js'
import type { AutoencoderTiny } from './tiny-autoencoder.js'
import type { TimeIdCount } from './time-ids.js'
import type { Unclip } from './unclip.js'
import type { Unet } from './unet.js'

/** The components of a model and what a run must know about it. */
export interface Parts {
  name: string
  textEncoders: readonly TextEncoder[]
  /** One for each text encoder; CLIP's tokenizer if the model has none. */
  tokenizers: readonly Tokenizer[]
  unet: Unet
  /** `tinyVae` itself where the model has no other. */
  vae: AutoencoderKL | AutoencoderTiny
  tinyVae?: AutoencoderTiny
  refiner?: Refiner
  controlNets: readonly ControlModel[]
  /** How the parameters of an image name them. */
  controlNames: readonly string[]
  ipAdapters: readonly IpAdapter[]
  schedule: ScheduleDescription
  defaultScheduler: SchedulerName
  /** How many numbers the UNet takes beside the pooled text; undefined: none. */
  timeIdCount?: TimeIdCount
  /** Whether zeros stand for a negative prompt that was not given, instead of the encoded ''. */
  zeroesEmptyNegative?: boolean
  /** Of a model that draws variations of images. */
  unclip?: Unclip
  /** Of a model that enlarges images. */
  lowResolution?: LowResolution
  /** Pixels along one side that the model was trained at. */
  imageSize: number
  /** Whether memory counts for more than time, see chooseResidency(). */
  savesMemory: boolean
  /** Every word of the captions that the model was trained on, where that is known. */
  trainedWords?: ReadonlySet<string>
  /** What the files of load()'s `loras` and `embeddings` changed. */
  adapters: readonly AdapterReport[]
  /** What the model's files ask for that is not supported, or that was assumed. */
  warnings: readonly string[]
  /** Where the LoRAs are that prompts name. */
  loraFolder?: string
}

/** Those of them that are in memory. */
export type LoadedParts = Pick<
  Parts,
  'textEncoders' | 'unet' | 'vae' | 'tinyVae' | 'refiner' | 'controlNets' | 'ipAdapters' | 'unclip'
>

/** Each component once: the refiner may use the model's text encoders, and IP-Adapters may share an image encoder. */
export function loadedComponents(parts: LoadedParts) {
  const { textEncoders, unet, vae, tinyVae, refiner, controlNets, ipAdapters, unclip } = parts
  const refining = refiner ? [refiner.unet, ...refiner.textEncoders] : []
  const encoders = [...ipAdapters.map(({ imageEncoder }) => imageEncoder), unclip?.imageEncoder]
  const all = [...textEncoders, unet, vae, tinyVae, ...controlNets, ...ipAdapters, ...encoders, ...refining]
  return new Set(all.filter((part) => part !== undefined))
}
