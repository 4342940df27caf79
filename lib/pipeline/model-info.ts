import type { ComponentSummary, ModelDescription, ScheduleDescription } from '../models/index.js'
import type { SchedulerName } from '../schedulers/index.js'

/** A description of a loaded model. */
export interface ModelInfo {
  path: string
  format: ModelDescription['format']
  /** 'Stable Diffusion 1.x', … */
  architecture: string
  /** Width and height in pixels that it was trained at. */
  imageSize: number
  /** Pixels along one side for each latent: width and height are multiples of it. */
  factor: number
  schedule: ScheduleDescription
  defaultScheduler: SchedulerName
  /** Sizes and element types as stored. */
  components: {
    textEncoders: ComponentSummary[]
    unet: ComponentSummary
    vae: ComponentSummary
    /** Of a model that draws variations of images. */
    imageEncoder?: ComponentSummary
  }
  /** Name of the refiner, if load() was given one. */
  refiner?: string
  /** What the files ask for that is not supported, or that was assumed. They are also in the warnings of results. */
  warnings: readonly string[]
  /** Every word of the captions that the model was trained on; only small models list them. */
  trainedWords?: readonly string[]
}
