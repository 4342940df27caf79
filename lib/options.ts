/** Every option of load() and generate(): defaults, bounds and interpretation. */
import { randomBytes } from 'node:crypto'
import {
  accelerationKeys,
  checkAcceleration,
  type Acceleration,
  type AccelerationOptions,
} from './acceleration.js'
import {
  checkBoolean,
  checkFunction,
  checkInteger,
  checkNumber,
  checkObject,
  checkOneOf,
  checkSeed,
  checkSignal,
  checkString,
  copyTensor,
  expectation,
} from './check.js'
import { Image, type ImageSource } from './image/index.js'
import { native, type Precision } from './native.js'
import type { StepEvent } from './step-event.js'
import { checkTiling, type TilingOption } from './tiling.js'
import { rngNames, type RngName } from './random/index.js'
import { schedulerNames, type SchedulerName, type SchedulerOptions } from './schedulers/index.js'
import type { Scheduler, Tensor } from './types.js'

/** Options of DiffusionPipeline.load(). */
export interface LoadOptions {
  /** Number of threads of the process, 1…256. Default: one for each physical core. */
  threads?: number
  /**
   * The type in which the engine multiplies. 'auto' chooses by the stored weights and the CPU; 'f32' comes closest to
   * diffusers in fp32. Default: 'auto'.
   */
  precision?: Precision
  /** Folder or file of a tiny autoencoder (TAESD), for previews and for images with `decoder: 'tiny'`. */
  tinyVae?: string
  /**
   * true: no weights stay in memory; they are read from the model's files whenever a layer needs them, in every step.
   * false: all weights stay in memory. Default: weights that are used in every step stay; those that are used once per
   * image are read for each image (the text encoder and autoencoder of a quantized model, otherwise the image encoder
   * alone). If this is true, or by default with a quantized model, the autoencoder takes no more working memory than
   * the UNet. With int8 arithmetic, images differ by rounding between the settings.
   */
  lowMemory?: boolean
  /** Aborts loading within 100 ms. */
  signal?: AbortSignal
}

/** The values of `precision`. */
export const precisions: readonly Precision[] = ['auto', 'f32', 'bf16', 'int8']

/** Checks the option if it is given. */
export function checkPrecision(value: unknown): Precision | undefined {
  return value === undefined ? undefined : checkOneOf(value, 'precision', precisions)
}

/** An input image: a path, the bytes of an encoded image, an Image, or a tensor [n, 3, h, w] in −1…1. */
export type ImageInput = ImageSource | Tensor

/** Options of generate(). Only `prompt` or `promptEmbeds` is required. */
export interface GenerateOptions extends AccelerationOptions {
  /**
   * What the image shows; several prompts give several images in one batch. `(word:1.3)` is a weight, see `weighting`.
   */
  prompt?: string | string[]
  /** What the image must not show: one text for all, or one for each prompt. Default: ''. */
  negativePrompt?: string | string[]
  /** In pixels, multiples of the autoencoder's factor (8). Default: the size of `image`, or that of the model. */
  width?: number
  height?: number
  /** Denoising steps, 1…1000. Default: 25. */
  steps?: number
  /**
   * How closely to follow the prompt, 0…100 (Ho & Salimans 2022, "Classifier-Free Diffusion Guidance"). Values up to 1
   * turn guidance off and halve the work. Default: 7.5 (3 for the bundled model).
   */
  guidanceScale?: number
  /** 0…1: counteracts overexposure with a high guidance scale (Lin et al. 2023). Default: 0. */
  guidanceRescale?: number
  /** 0…2^64−1; image i of a batch uses seed + i. Default: random; the result reports it. */
  seed?: number | bigint
  /** Noise as from torch with a CPU generator, or as from the web UIs on a GPU ('philox'). Default: 'torch'. */
  rng?: RngName
  /** Images for each prompt, 1…256. Default: 1. */
  batchSize?: number
  /** A name, or an object that implements Scheduler. Default: the one that the model's files name. */
  scheduler?: SchedulerName | Scheduler
  /** Options of the named scheduler: eta, spacing, … */
  schedulerOptions?: SchedulerOptions
  /** Number of the text encoder's last layers to skip. Default: 0. */
  clipSkip?: number
  /** Whether brackets in prompts are weights and BREAK starts a new chunk. Default: true. */
  weighting?: boolean
  /** Start from this image. */
  image?: ImageInput
  /** How much of the image to change, 0…1. Default: 0.8, with a mask 1. */
  strength?: number
  /** White where the image is repainted. As a tensor: [n, 1, h, w] in 0…1. */
  mask?: ImageInput
  /** Additional input channels of the UNet, [n, c, h/8, w/8]: semantic maps, latents of another image. */
  extraChannels?: Tensor
  /** Embeddings in place of `prompt`: [n, length, width]. */
  promptEmbeds?: Tensor
  /** Embeddings in place of `negativePrompt`, of the same length as `promptEmbeds`. */
  negativePromptEmbeds?: Tensor
  /** Initial noise from N(0, 1) in place of the seed's: [n, c, h/8, w/8]. */
  latents?: Tensor
  /** 'latents' returns the latents without decoding them. Default: 'image'. */
  outputType?: 'image' | 'latents'
  /** Which autoencoder decodes the images; 'tiny' is the one given to load() as `tinyVae`. Default: 'full'. */
  decoder?: 'full' | 'tiny'
  /**
   * Whether the autoencoder decodes and encodes in bands of rows, which saves memory. Default: if the whole image would
   * take more than 700 MB; see also `lowMemory`.
   */
  vaeTiling?: TilingOption
  /** Aborts the call within 100 ms; it rejects with the signal's reason. */
  signal?: AbortSignal
  /** Called after each step. A promise that it returns is awaited; an error that it throws ends the call. */
  onStep?: (event: StepEvent) => unknown
}

/** What the checks must know about the model. */
export interface ModelFacts {
  /** Default width and height in pixels. */
  imageSize: number
  /** Pixels along one side for each latent. */
  factor: number
  latentChannels: number
  contextWidth: number
  /** Largest depth of deep features, see Unet.maxDepth. */
  maxDepth: number
  /** The model's own default guidance scale. */
  guidanceScale?: number
  /** Layers that clipSkip can leave out; −1: the model has no text encoder. */
  maxClipSkip: number
  /** Whether a tiny autoencoder was loaded. */
  tinyVae?: boolean
}

/** GenerateOptions with all defaults filled in. */
export interface GenerateRequest extends Acceleration {
  prompts: string[]
  negativePrompts: string[]
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
  strength: number
  mask?: ImageInput
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

const generateKeys = [
  'prompt', 'negativePrompt', 'width', 'height', 'steps', 'guidanceScale', 'guidanceRescale', 'seed', 'rng', 'batchSize',
  'scheduler', 'schedulerOptions', 'clipSkip', 'weighting', 'image', 'strength', 'mask', 'extraChannels', 'promptEmbeds',
  'negativePromptEmbeds', 'latents', 'outputType', 'decoder', 'vaeTiling', ...accelerationKeys, 'signal', 'onStep',
] satisfies (keyof GenerateOptions)[] // prettier-ignore

/** Maximum width and height in pixels. Whether an image fits into memory is checked separately. */
export const maxSide = 2 ** 20

/** Maximum number of characters of one prompt. */
export const maxPromptLength = 8192

/** The defaults of generate(). */
export const defaults = {
  negativePrompt: '',
  steps: 25,
  guidanceScale: 7.5,
  guidanceRescale: 0,
  rng: 'torch',
  batchSize: 1,
  clipSkip: 0,
  weighting: true,
  strength: 0.8,
  inpaintStrength: 1,
  outputType: 'image',
} as const

export function checkLoadOptions(options: unknown): LoadOptions {
  const keys = ['threads', 'precision', 'tinyVae', 'lowMemory', 'signal'] as const
  const { threads, precision, tinyVae, lowMemory, signal } = checkObject(options, 'options', keys)
  return {
    threads: threads === undefined ? undefined : checkInteger(threads, 'threads', 1, native().limits.threads),
    precision: checkPrecision(precision),
    tinyVae: tinyVae === undefined ? undefined : checkString(tinyVae, 'tinyVae'),
    lowMemory: lowMemory === undefined ? undefined : checkBoolean(lowMemory, 'lowMemory'),
    signal: checkSignal(signal),
  }
}

/**
 * Validates the options and fills in the defaults. Tensors and images are copied, because a request may wait in the
 * queue while its caller goes on.
 */
export function checkGenerateOptions(options: unknown, model: ModelFacts): GenerateRequest {
  const o = checkObject(options, 'options', generateKeys)
  const optional = <T>(
    key: keyof GenerateOptions,
    check: (value: unknown, path: string) => T,
    fallback: T,
  ): T => (o[key] === undefined ? fallback : check(o[key], key))
  const integer = (lowest: number, highest: number) => (v: unknown, path: string) =>
    checkInteger(v, path, lowest, highest)
  const number = (lowest: number, highest: number) => (v: unknown, path: string) =>
    checkNumber(v, path, lowest, highest)
  const side = (value: unknown, path: string) => checkSide(value, path, model.factor)

  const batchSize = optional('batchSize', integer(1, 256), defaults.batchSize)
  const width = optional('width', side, model.imageSize)
  const height = optional('height', side, model.imageSize)
  const text = checkTexts(o, model)
  const count = text.rows * batchSize
  if (count > 256) {
    throw new RangeError(
      `Expected at most 256 images but received ${text.rows} prompts × batchSize ${batchSize}`,
    )
  }
  const image = optional('image', copyImage, undefined)
  const mask = optional('mask', copyImage, undefined)
  if (mask !== undefined && image === undefined) throw new TypeError('Expected image, as mask was given')
  if (o.strength !== undefined && image === undefined)
    throw new TypeError('Expected image, as strength was given')
  if (o.latents !== undefined && image !== undefined && mask === undefined) {
    throw new TypeError('Expected either image or latents but received both')
  }
  const latentShape = [-1, model.latentChannels, -1, -1]
  const latents = optional('latents', (v, path) => copyTensor(v, path, latentShape), undefined)
  const scheduler = optional('scheduler', checkScheduler, undefined)
  const steps = optional(
    'steps',
    integer(1, 1000),
    typeof scheduler === 'object' ? stepsOf(scheduler) : defaults.steps,
  )
  if (o.schedulerOptions !== undefined && typeof scheduler === 'object') {
    throw new TypeError('Expected the name of a scheduler, as schedulerOptions was given')
  }
  const seed = optional('seed', checkSeed, randomSeed())
  return {
    ...text,
    batchSize,
    count,
    width,
    height,
    sizeGiven: o.width !== undefined || o.height !== undefined,
    steps,
    guidanceScale: optional('guidanceScale', number(0, 100), model.guidanceScale ?? defaults.guidanceScale),
    guidanceRescale: optional('guidanceRescale', number(0, 1), defaults.guidanceRescale),
    seeds: Array.from({ length: count }, (_, i) => seedAfter(seed, i)),
    rng: optional('rng', (v, path) => checkOneOf(v, path, rngNames), defaults.rng),
    scheduler,
    schedulerOptions: optional('schedulerOptions', checkSchedulerOptions, undefined),
    clipSkip: optional('clipSkip', integer(0, Math.max(0, model.maxClipSkip)), defaults.clipSkip),
    weighting: optional('weighting', checkBoolean, defaults.weighting),
    image,
    strength: optional(
      'strength',
      number(0, 1),
      mask === undefined ? defaults.strength : defaults.inpaintStrength,
    ),
    mask,
    extraChannels: optional('extraChannels', (v, path) => copyTensor(v, path, [-1, -1, -1, -1]), undefined),
    latents,
    outputType: optional(
      'outputType',
      (v, path) => checkOneOf(v, path, ['image', 'latents']),
      defaults.outputType,
    ),
    decoder: checkDecoder(o.decoder, model),
    vaeTiling: checkTiling(o.vaeTiling),
    ...checkAcceleration(o, model.maxDepth),
    signal: checkSignal(o.signal),
    onStep: optional('onStep', checkFunction<(event: StepEvent) => unknown>, undefined),
  }
}

function checkDecoder(value: unknown, { tinyVae }: ModelFacts): 'full' | 'tiny' {
  const decoder = value === undefined ? 'full' : checkOneOf(value, 'decoder', ['full', 'tiny'] as const)
  if (decoder === 'tiny' && !tinyVae)
    throw new TypeError("Expected a pipeline loaded with tinyVae, as decoder 'tiny' was given")
  return decoder
}

/** Prompts or embeddings and the negative ones for them; `rows` is their number. */
function checkTexts(o: Record<string, unknown>, { contextWidth, maxClipSkip }: ModelFacts) {
  const embeds = (key: 'promptEmbeds' | 'negativePromptEmbeds', shape: number[]) =>
    o[key] === undefined ? undefined : copyTensor(o[key], key, shape)
  const promptEmbeds = embeds('promptEmbeds', [-1, -1, contextWidth])
  if (promptEmbeds && o.prompt !== undefined) {
    throw new TypeError('Expected either prompt or promptEmbeds but received both')
  }
  if (!promptEmbeds && o.prompt === undefined) throw new TypeError(expectation('string', 'prompt', o.prompt))
  if (!promptEmbeds && maxClipSkip < 0) {
    throw new TypeError('Expected promptEmbeds, as this model has no text encoder')
  }
  const prompts = promptEmbeds ? [] : texts(o.prompt, 'prompt')
  const rows = promptEmbeds ? promptEmbeds.shape[0] : prompts.length
  const negativePromptEmbeds = embeds('negativePromptEmbeds', [
    -1,
    promptEmbeds?.shape[1] ?? -1,
    contextWidth,
  ])
  if (negativePromptEmbeds) {
    if (!promptEmbeds) throw new TypeError('Expected promptEmbeds, as negativePromptEmbeds was given')
    if (o.negativePrompt !== undefined) {
      throw new TypeError('Expected either negativePrompt or negativePromptEmbeds but received both')
    }
    if (![1, rows].includes(negativePromptEmbeds.shape[0])) {
      throw new RangeError(
        `Expected shape [${rows}, …] for negativePromptEmbeds but received [${negativePromptEmbeds.shape.join(', ')}]`,
      )
    }
  }
  if (promptEmbeds && o.negativePrompt !== undefined)
    throw new TypeError('Expected negativePromptEmbeds in place of negativePrompt, as promptEmbeds was given')
  const given = texts(
    o.negativePrompt === undefined ? defaults.negativePrompt : o.negativePrompt,
    'negativePrompt',
  )
  if (given.length !== 1 && given.length !== rows) {
    throw new RangeError(
      `Expected 1 or ${rows} strings for negativePrompt, as for prompt, but received ${given.length}`,
    )
  }
  const negativePrompts = given.length === rows ? given : new Array<string>(rows).fill(given[0])
  return { prompts, negativePrompts, promptEmbeds, negativePromptEmbeds, rows }
}

function texts(value: unknown, path: string): string[] {
  if (!Array.isArray(value)) {
    if (typeof value !== 'string') throw new TypeError(expectation('string or array of strings', path, value))
    return [checkText(value, path)]
  }
  if (value.length < 1 || value.length > 256) {
    throw new RangeError(expectation('between 1 and 256 strings', path, value))
  }
  // Unlike map(), Array.from() does not skip the holes of a sparse array.
  return Array.from(value, (text, i) => checkText(text, `${path}[${i}]`))
}

/** Tokenizing is synchronous, so a very long text would block the event loop. */
function checkText(value: unknown, path: string): string {
  const text = checkString(value, path)
  if (text.length <= maxPromptLength) return text
  throw new RangeError(
    `Expected at most ${maxPromptLength} characters for ${path} but received ${text.length}`,
  )
}

function checkSide(value: unknown, path: string, factor: number): number {
  const side = checkInteger(value, path, factor, maxSide)
  if (side % factor !== 0) throw new RangeError(expectation(`multiple of ${factor}`, path, value))
  return side
}

function copyImage(value: unknown, path: string): ImageInput {
  if (typeof value === 'string') return value
  if (value instanceof Uint8Array) return new Uint8Array(value)
  if (value instanceof Image) return new Image(value.width, value.height, new Uint8Array(value.data))
  if (typeof value === 'object' && value !== null && 'shape' in value)
    return copyTensor(value, path, [-1, -1, -1, -1])
  throw new TypeError(expectation('path, encoded image (Uint8Array), Image or tensor', path, value))
}

function checkScheduler(value: unknown, path: string): SchedulerName | Scheduler {
  if (typeof value === 'string') return checkOneOf(value, path, schedulerNames)
  if (typeof value !== 'object' || value === null) {
    throw new TypeError(expectation(`one of ${schedulerNames.join(', ')}, or a Scheduler`, path, value))
  }
  const scheduler = value as Scheduler
  for (const method of ['scaleModelInput', 'step', 'addNoise'] as const) {
    checkFunction((value as Record<string, unknown>)[method], `${path}.${method}`)
  }
  checkNumber(scheduler.initNoiseSigma, `${path}.initNoiseSigma`, 0, Number.MAX_VALUE)
  if (scheduler.order !== undefined) checkInteger(scheduler.order, `${path}.order`, 1, 1000)
  const { timesteps } = scheduler
  if (typeof timesteps !== 'object' || timesteps === null || typeof timesteps.length !== 'number') {
    throw new TypeError(expectation('array of numbers', `${path}.timesteps`, timesteps))
  }
  if (timesteps.length < 1)
    throw new RangeError(expectation('at least one number', `${path}.timesteps`, timesteps))
  for (let i = 0; i < timesteps.length; i++)
    checkNumber(timesteps[i], `${path}.timesteps[${i}]`, 0, Number.MAX_VALUE)
  return scheduler
}

/** The number of steps of a scheduler object. */
function stepsOf({ timesteps, order = 1 }: Scheduler): number {
  return Math.max(Math.floor(timesteps.length / order), 1)
}

/** A copy of the object. The scheduler checks what is in it. */
function checkSchedulerOptions(value: unknown, path: string): SchedulerOptions {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new TypeError(expectation('object', path, value))
  }
  return { ...value }
}

/** Random seeds have 32 bits, so that they are short enough to type. */
function randomSeed(): number {
  return randomBytes(4).readUInt32LE()
}

/** seed + i: a number as long as it is exact, wrapping around at 2^64. */
function seedAfter(seed: number | bigint, i: number): number | bigint {
  const next = BigInt.asUintN(64, BigInt(seed) + BigInt(i))
  return typeof seed === 'number' && next <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(next) : next
}
