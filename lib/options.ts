/** Every option of load() and generate(): its default, its bounds, and what it is interpreted as. */
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
  checkTensor,
  expectation,
} from './check.js'
import { Image, type ImageSource } from './image/index.js'
import { native, type Precision } from './native.js'
import type { StepEvent } from './step-event.js'
import { checkTiling, type TilingOption } from './tiling.js'
import { rngNames, type RngName } from './random/index.js'
import { schedulerNames, type SchedulerName, type SchedulerOptions } from './schedulers/index.js'
import type { Scheduler, Tensor } from './types.js'

/** How a model is opened. */
export interface LoadOptions {
  /** Threads of the whole process, 1…256. Default: one for each physical core. */
  threads?: number
  /**
   * How much precision the engine's products may give up. 'auto' follows the stored weights and the CPU; 'f32' is what
   * comes closest to diffusers in fp32. Default: 'auto'.
   */
  precision?: Precision
  /** A tiny autoencoder (TAESD) for previews and, with `decoder: 'tiny'`, for pictures: its folder or file. */
  tinyVae?: string
  /**
   * true: weights are read from the model's files whenever a layer needs them, in every step, and none stay in memory.
   * false: all of them stay in memory, ready for use. Default: what works in every step stays; what works once a picture
   * is read for each picture (with a quantized model the text encoder and the autoencoder, else the image encoder alone).
   * Where the model is quantized or this is true, the autoencoder takes no more working memory than the UNet. With int8
   * arithmetic the picture is another by rounding, as layers whose weights are streamed take another way there.
   */
  lowMemory?: boolean
  /** Ends loading within 100 ms. */
  signal?: AbortSignal
}

/** The names that `precision` takes. */
export const precisions: readonly Precision[] = ['auto', 'f32', 'bf16', 'int8']

/** Checks the option, where it is given. */
export function checkPrecision(value: unknown): Precision | undefined {
  return value === undefined ? undefined : checkOneOf(value, 'precision', precisions)
}

/** An image as generate() takes it: a path, an encoded file's bytes, an Image, or a tensor [n, 3, h, w] in −1…1. */
export type ImageInput = ImageSource | Tensor

/** What to draw and how. Only `prompt` (or `promptEmbeds`) is needed. */
export interface GenerateOptions extends AccelerationOptions {
  /** What the picture shows; several prompts make several pictures in one batch. `(word:1.3)` weighs, see `weighting`. */
  prompt?: string | string[]
  /** What it must not show: one for all, or one for each prompt. Default: ''. */
  negativePrompt?: string | string[]
  /** Pixels; multiples of the autoencoder's factor (8). Default: the input image's or the model's own size. */
  width?: number
  height?: number
  /** Denoising steps, 1…1000. Default: 25. */
  steps?: number
  /** How closely to follow the prompt, 0…100; 1 and less: no guidance, half the work. Default: 7.5 (the model in the box: 3). */
  guidanceScale?: number
  /** 0…1: against overexposure with high guidance (Lin et al. 2023). Default: 0. */
  guidanceRescale?: number
  /** 0…2^64−1; image i of a batch uses seed + i. Default: random, and reported in the result. */
  seed?: number | bigint
  /** Whose random numbers: a seed draws what torch draws on a CPU, or what the GPU webui does. Default: 'torch'. */
  rng?: RngName
  /** Pictures for each prompt, 1…256. Default: 1. */
  batchSize?: number
  /** A name, or any object that implements Scheduler. Default: the model authors' own. */
  scheduler?: SchedulerName | Scheduler
  /** What the scheduler of that name can be told: eta, spacing, … (checked by it). */
  schedulerOptions?: SchedulerOptions
  /** Last layers of the text encoder to leave out. Default: 0. */
  clipSkip?: number
  /** Whether brackets in prompts are weights. Default: true. */
  weighting?: boolean
  /** Start from this image. */
  image?: ImageInput
  /** How much of the image to give up, 0…1. Default: 0.8; with a mask 1. */
  strength?: number
  /** White where the image is to be painted anew; a tensor: [n, 1, h, w] in 0…1. */
  mask?: ImageInput
  /** Further input channels of UNets that have them, [n, c, h/8, w/8]: semantic maps, latents of another image. */
  extraChannels?: Tensor
  /** Ready-made embeddings in place of `prompt`: [n, length, width]. */
  promptEmbeds?: Tensor
  /** In place of `negativePrompt`; as long as promptEmbeds. */
  negativePromptEmbeds?: Tensor
  /** Initial noise N(0,1) in place of the seed's: [n, c, h/8, w/8]. */
  latents?: Tensor
  /** 'latents': stop before the decoder. Default: 'image'. */
  outputType?: 'image' | 'latents'
  /** Which autoencoder makes the pictures; 'tiny' is the one given to load() as `tinyVae`. Default: 'full'. */
  decoder?: 'full' | 'tiny'
  /** Decode and encode in bands, to save memory. Default: where the whole image would take more than 700 MB; see lowMemory. */
  vaeTiling?: TilingOption
  /** Ends the call within 100 ms; it rejects with the signal's reason. */
  signal?: AbortSignal
  /** Called after each step; a promise is waited for. What it throws ends the call. */
  onStep?: (event: StepEvent) => unknown
}

/** What options.ts must know about the model. */
export interface ModelFacts {
  /** Default side, in pixels. */
  imageSize: number
  /** Pixels a side of one latent. */
  factor: number
  latentChannels: number
  contextWidth: number
  /** Layers of the UNet's way up but one. */
  maxDepth: number
  /** Default guidance, where the model wants another than Stable Diffusion's. */
  guidanceScale?: number
  /** Layers that clipSkip can leave out; −1: the model has no text encoder. */
  maxClipSkip: number
  /** A tiny autoencoder was loaded. */
  tinyVae?: boolean
}

/** GenerateOptions with every question answered. */
export interface GenerateRequest extends Acceleration {
  prompts: string[]
  negativePrompts: string[]
  /** Prompts (or embeddings) and images of each; `count` is their product. */
  batchSize: number
  count: number
  width: number
  height: number
  /** The size was asked for: an input image is resized to it. */
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

/** The longest side in pixels: what fits into memory is asked separately, and says how much that would be. */
export const maxSide = 2 ** 20

/** Characters of one prompt: tens of chunks of 75 tokens. */
export const maxPromptLength = 8192

/** What generate() uses where nothing is said. */
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

/** Defaults → validate → interpret. Nothing large is allocated before everything has been checked. */
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
  const image = optional('image', checkImage, undefined)
  const mask = optional('mask', checkImage, undefined)
  if (mask !== undefined && image === undefined) throw new TypeError('Expected image, as mask was given')
  if (o.strength !== undefined && image === undefined)
    throw new TypeError('Expected image, as strength was given')
  if (o.latents !== undefined && image !== undefined && mask === undefined) {
    throw new TypeError('Expected either image or latents but received both')
  }
  const latentShape = [-1, model.latentChannels, -1, -1]
  const latents = optional('latents', (v, path) => checkTensor(v, path, latentShape), undefined)
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
    extraChannels: optional('extraChannels', (v, path) => checkTensor(v, path, [-1, -1, -1, -1]), undefined),
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

/** Prompts or embeddings, and as many negative ones; `rows` is their number. */
function checkTexts(o: Record<string, unknown>, { contextWidth, maxClipSkip }: ModelFacts) {
  const embeds = (key: 'promptEmbeds' | 'negativePromptEmbeds', shape: number[]) =>
    o[key] === undefined ? undefined : checkTensor(o[key], key, shape)
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
  return value.map((text, i) => checkText(text, `${path}[${i}]`))
}

/** Tokenizing is synchronous: a whole book would block the event loop. */
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

function checkImage(value: unknown, path: string): ImageInput {
  if (typeof value === 'string' || value instanceof Uint8Array || value instanceof Image) return value
  if (typeof value === 'object' && value !== null && 'shape' in value)
    return checkTensor(value, path, [-1, -1, -1, -1])
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

/** Steps of a scheduler that was made elsewhere. */
function stepsOf({ timesteps, order = 1 }: Scheduler): number {
  return Math.max(Math.floor(timesteps.length / order), 1)
}

/** An object; what may be in it is the scheduler's own business. */
function checkSchedulerOptions(value: unknown, path: string): SchedulerOptions {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new TypeError(expectation('object', path, value))
  }
  return value
}

/** 32 bits, as people like to type them. */
function randomSeed(): number {
  return randomBytes(4).readUInt32LE()
}

/** seed + i, a number as long as it is exact; beyond 2^64 it starts over. */
function seedAfter(seed: number | bigint, i: number): number | bigint {
  const next = BigInt.asUintN(64, BigInt(seed) + BigInt(i))
  return typeof seed === 'number' && next <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(next) : next
}
