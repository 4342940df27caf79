/** The plain currency at the API boundary: row-major float32; images and latents are NCHW, as in diffusers. */
export interface Tensor {
  data: Float32Array
  shape: number[]
}

/** Draws standard normal numbers; the same seed gives the same numbers. */
export interface Random {
  /** `count` samples of N(0,1), shaped `shape` (row-major). */
  normal(shape: readonly number[]): Tensor
}

export type PredictionType = 'epsilon' | 'v_prediction' | 'sample'

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

/**
 * What a denoising loop asks of a sampling method. The built-in ones live in `schedulers/`, one file each; any object
 * of this form can be passed as `scheduler`. A scheduler is made for one run (one number of steps) and may keep state
 * between steps, so it serves one run at a time.
 */
export interface Scheduler {
  /** One UNet call each, in order: timesteps of the training schedule (0…999, fractional where a method wants it). */
  readonly timesteps: ArrayLike<number>
  /** Noise level of each timestep, where the method knows one (for progress reports). */
  readonly sigmas?: ArrayLike<number>
  /** UNet calls, and so timesteps, that make one step: 2 for methods of second order. Default: 1. */
  readonly order?: number
  /** Standard deviation that the initial noise must be scaled to. */
  readonly initNoiseSigma: number
  /** Starts over; `random` serves the methods that add noise, `begin` is the index of the first timestep to be used. */
  reset?(options: { random: Random; begin: number }): void
  /** The latents as the UNet wants to see them at `timestep`. Must not change its argument. */
  scaleModelInput(latents: Tensor, timestep: number): Tensor
  /** From the UNet's prediction at `timestep` to the latents of the next. Must not change its arguments. */
  step(prediction: Tensor, timestep: number, latents: Tensor): Tensor
  /** The fully denoised latents that the last `step` estimated, for previews. */
  readonly denoised?: Tensor
  /** The forward process: clean latents noised to the level of `timestep`. */
  addNoise(latents: Tensor, noise: Tensor, timestep: number): Tensor
}
