import type { SchedulerName } from '../schedulers/index.js'
import type { Tokenizer } from '../tokenizer/tokenizer.js'
import type { ScheduleDescription } from '../types.js'
import type { AutoencoderKL } from './autoencoder.js'
import type { TextEncoder } from './text-encoder.js'
import type { AutoencoderTiny } from './tiny-autoencoder.js'
import type { Unet } from './unet.js'

/** The parts of a model that a run works with. */
export interface Parts {
  name: string
  tokenizer: Tokenizer
  textEncoder?: TextEncoder
  unet: Unet
  vae: AutoencoderKL
  tinyVae?: AutoencoderTiny
  schedule: ScheduleDescription
  defaultScheduler: SchedulerName
  imageSize: number
  /** Weights and the autoencoder's work give way to memory. */
  frugal: boolean
  /** Every word that the model was taught, where that is known. */
  words?: ReadonlySet<string>
}
