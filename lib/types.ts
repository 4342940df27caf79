/** A row-major float32 array with its shape. Images and latents are NCHW, as in diffusers. */
export interface Tensor {
  data: Float32Array
  shape: number[]
}

/** A device that a model computes on: the CPU, or an NVIDIA GPU by its number. */
export type DeviceName = 'cpu' | `cuda:${number}`

/** `device` of load(): 'cuda' is the first GPU, 'auto' a GPU if there is one that the model fits on, else the CPU. */
export type DeviceOption = 'auto' | 'cuda' | DeviceName

/** A source of standard normal numbers; the same seed gives the same numbers. */
export interface Random {
  /** `count` samples of N(0,1), shaped `shape` (row-major). */
  normal(shape: readonly number[]): Tensor
}

export type PredictionType = 'epsilon' | 'v_prediction' | 'sample'

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
  /** Of DPM-Solver's classes: the solver of the reverse SDE, if it is that. */
  algorithmType?: 'sde-dpmsolver++'
  /** Options of the authors' method that differ from its defaults; they count whenever that method is used. */
  methodOptions?: SchedulerOptions
}

/** The options of sampling methods. Defaults are those of diffusers. */
export interface SchedulerOptions {
  /** What the UNet predicts. Default: as in the model's schedule. */
  predictionType?: PredictionType
  /** Spacing of the timesteps. Default: as in the model's schedule, otherwise the method's own. */
  spacing?: 'leading' | 'linspace' | 'trailing'
  /** A formula for the noise levels in place of those of the timesteps; the same as the suffix of the name. */
  sigmas?: 'karras' | 'exponential' | 'beta'
  /** The last noise level: none, or the lowest one of the training schedule. Default: 'zero'. */
  finalSigmasType?: 'zero' | 'sigma_min'
  /** Whether the last training timestep is pure noise (Lin et al. 2023). Default: as in the model's schedule. */
  rescaleBetasZeroSnr?: boolean
  /** Fraction 0…1 of the reverse SDE's noise. Default: 0 for DDIM, 0.3 for TCD, 1 for ancestral and SDE methods. */
  eta?: number
  /** Order of the solver: LMS 1…4 (default 4), DPM++ 2M and 2S, DEIS and UniPC 1…3 (default 2). */
  order?: number
  /** DPM++ 2M and 2S: 'midpoint' (default) or 'heun'; UniPC: 'bh1' or 'bh2' (default). */
  solverType?: 'midpoint' | 'heun' | 'bh1' | 'bh2'
  /** Whether the last steps of short runs have a lower order. Default: true. */
  lowerOrderFinal?: boolean
  /** Whether the very last step is of first order. Default: false. */
  eulerAtFinal?: boolean
  /** PLMS: whether to skip the Runge–Kutta warm-up, as Stable Diffusion does. Default: true. */
  skipPrkSteps?: boolean
  /** DDPM: the lower or upper bound as the variance of the reverse steps. Default: 'fixed_small'. */
  varianceType?: 'fixed_small' | 'fixed_large'
  /** LCM, TCD: number of steps of the schedule that the model was distilled on, 1…1000. Default: 50. */
  originalInferenceSteps?: number
  /** LCM, TCD: the timesteps themselves, one for each step, in descending order. */
  timesteps?: readonly number[]
}

/**
 * What the input channels of a UNet hold beside the noisy latents:
 *
 * - 'masked-image': a mask and the latents of the image without the masked part (inpainting)
 * - 'image': the latents of the image to edit (InstructPix2Pix)
 * - 'small-image': the image to enlarge, as pixels, of the size of the latents (the ×4 upscaler)
 * - 'small-latents': the latents of the image to enlarge, in twice their size (the ×2 latent upscaler)
 * - 'embedded-image': the embedding of an image, which is no channel (unCLIP)
 * - 'depth': a depth map (Stable Diffusion 2 depth)
 * - 'other': something else, which the caller has to give as extraChannels
 */
export type ExtraInput =
  'none' | 'masked-image' | 'image' | 'small-image' | 'small-latents' | 'embedded-image' | 'depth' | 'other'

/** A token that texts are searched for before they are split into words, as in transformers. */
export interface AddedToken {
  content: string
  id: number
  /** Whether it is found in lower case, too. Default: true. */
  normalized?: boolean
  /** Whether it takes the blanks before or after it. Default: false. */
  lstrip?: boolean
  rstrip?: boolean
}

/** A tokenizer. Without texts it uses the built-in CLIP vocabulary. */
export interface TokenizerDescription {
  /** The texts of vocab.json and merges.txt, or of tokenizer.json. */
  vocab?: string
  merges?: string
  tokenizerJson?: string
  /** Trained tokens such as `<my-cat>`. Default: those of tokenizerJson, if that is the text in use. */
  addedTokens?: AddedToken[]
  /** Length of one chunk, including the begin and end tokens (77). */
  maxLength: number
  /** Token that pads chunks: '<|endoftext|>' (SD 1), '!' (SD 2). */
  padToken: string
}

/**
 * A sampling method, as the denoising loop uses it. The built-in ones are in `schedulers/`, one file each; any object
 * with these members can be passed as `scheduler`. A scheduler is made for one number of steps and may keep state
 * between them, so it serves one run at a time.
 */
export interface Scheduler {
  /**
   * The timesteps of all UNet calls in their order, on the scale of the training schedule (0…999, fractions allowed).
   */
  readonly timesteps: ArrayLike<number>
  /** Noise level at each timestep, for progress reports. */
  readonly sigmas?: ArrayLike<number>
  /** UNet calls, and therefore timesteps, for each step: 2 for second-order methods. Default: 1. */
  readonly order?: number
  /** Standard deviation of the initial noise. */
  readonly initNoiseSigma: number
  /** Starts a run at the timestep of index `begin`; methods that add noise draw it from `random`. */
  reset?(options: { random: Random; begin: number }): void
  /** Scales the latents for the UNet's input at `timestep`. Must not change its argument. */
  scaleModelInput(latents: Tensor, timestep: number): Tensor
  /** Computes the next latents from the UNet's prediction at `timestep`. Must not change its arguments. */
  step(prediction: Tensor, timestep: number, latents: Tensor): Tensor
  /** The last step's estimate of the fully denoised latents, for previews. */
  readonly denoised?: Tensor
  /** The forward process: adds noise of the level of `timestep` to clean latents. */
  addNoise(latents: Tensor, noise: Tensor, timestep: number): Tensor
}

/** The mean and standard deviation of each channel of 0…1 that are subtracted and divided by. */
export interface PixelStatistics {
  mean: readonly number[]
  deviation: readonly number[]
}
