/** The options of generate(): what may be given, what is checked and what it means. */
import { randomBytes } from 'node:crypto'
import {
  checkBoolean,
  checkFunction,
  checkInteger,
  checkNumber,
  checkObject,
  checkOneOf,
  checkSeed,
  checkSignal,
  copyTensor,
} from '../check.js'
import { rngNames, type RngName } from '../random/index.js'
import type { SchedulerName, SchedulerOptions } from '../schedulers/index.js'
import type { StepEvent } from '../step-event.js'
import type { Scheduler, Tensor } from '../types.js'
import { accelerationKeys, checkAcceleration, type AccelerationOptions } from './acceleration.js'
import { checkConditions, conditionKeys, type ConditionOptions } from './conditions.js'
import { checkControls, type ControlOptions } from './controls.js'
import { defaults } from './defaults.js'
import { checkExtraInput, startsFromImage } from './extra-input.js'
import { checkImageEmbeds } from './image-embeds.js'
import { checkSide, copyImage, type ImageInput } from './images.js'
import { checkImagePrompts, type ImagePromptOptions } from './image-prompts.js'
import type { GenerateRequest, ModelFacts } from './request.js'
import { presetDefaults, presetNames, presetScheduler, type PresetName } from './presets.js'
import { checkScheduler, checkSchedulerOptions, stepsOf } from './scheduler.js'
import { checkLoras, type LoraOption } from './load.js'
import { checkTexts } from './texts.js'
import { checkTiling, type TilingOption } from './tiling.js'

/** Options of generate(). Only `prompt` or `promptEmbeds` is required. */
export interface GenerateOptions extends AccelerationOptions, ConditionOptions {
  /**
   * What the image shows; several prompts give several images in one batch. `(word:1.3)` is a weight, see `weighting`.
   */
  prompt?: string | string[]
  /** What the image must not show: one text for all, or one for each prompt. Default: ''. */
  negativePrompt?: string | string[]
  /**
   * LoRAs for this call alone, beside those of load(). The layers that they change are made anew, and take memory
   * beside the model's own until the call ends.
   */
  loras?: LoraOption[]
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
  /**
   * Scheduler, its options, steps and guidance that the authors of a few-step model give: 'turbo', 'lightning', … They are
   * defaults, so other options take their places. Default: 'lcm' or 'tcd' if the model's files tell that it is one.
   */
  preset?: PresetName
  /** Options of the named scheduler: eta, spacing, … */
  schedulerOptions?: SchedulerOptions
  /** Number of the text encoder's last layers to skip. Default: 0. */
  clipSkip?: number
  /** Whether brackets in prompts are weights and BREAK starts a new chunk. Default: true. */
  weighting?: boolean
  /**
   * Start from this image. Without width and height, it is scaled to the model's size if it has more than four times the
   * pixels.
   */
  image?: ImageInput
  /** unCLIP: the embedding of an image in place of `image`, [n, width], as ImageEncoder.encode() gives it. */
  imageEmbeds?: Tensor
  /** How much of the image to change, 0…1. Default: 0.8, with a mask 1. */
  strength?: number
  /**
   * White where the image is repainted. As a tensor: [n, 1, h, w] in 0…1. In an image with transparency, a stroke of one
   * colour is repainted, and so is a hole in a picture.
   */
  mask?: ImageInput
  /**
   * A depth map for models that draw by one (Stable Diffusion 2 depth), light where things are near. As a tensor: [n, 1, h,
   * w] of any size and range. Together with `image`, it must show the same view; without, it gives the picture its size.
   */
  depth?: ImageInput
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
  /** Which autoencoder decodes the images; 'tiny' is the one given to load() as `tinyVae`, or the model's own. Default:
   * 'full', if the model has another than a tiny one. */
  decoder?: 'full' | 'tiny'
  /**
   * Whether the autoencoder decodes and encodes in bands of rows, which saves memory. Default: if the whole image would
   * take more than 700 MB, or a sixth of the GPU's memory; see also `lowMemory`.
   */
  vaeTiling?: TilingOption
  /** Pictures that guide the run, each through one of load()'s `controlNets`. Default: none. */
  controls?: readonly ControlOptions[]
  /** Images that the run attends to beside the prompt, each through one of load()'s `ipAdapters`. Default: none. */
  imagePrompts?: readonly ImagePromptOptions[]
  /** Aborts the call within 100 ms; it rejects with the signal's reason. */
  signal?: AbortSignal
  /**
   * Called after each step. A promise that it returns is awaited; an error that it throws ends the call. It may use the
   * pipeline's components, but not wait for another run of the same pipeline.
   */
  onStep?: (event: StepEvent) => unknown
}

export const generateKeys = [
  'prompt', 'negativePrompt', 'loras', 'width', 'height', 'steps', 'guidanceScale', 'guidanceRescale', 'seed', 'rng', 'batchSize',
  'scheduler', 'schedulerOptions', 'preset', 'clipSkip', 'weighting', 'image', 'strength', 'mask', 'depth', 'imageEmbeds', 'extraChannels', 'promptEmbeds',
  'negativePromptEmbeds', 'latents', 'outputType', 'decoder', 'vaeTiling', ...accelerationKeys, ...conditionKeys, 'controls', 'imagePrompts', 'signal', 'onStep',
] satisfies (keyof GenerateOptions)[] // prettier-ignore

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
  const side = (value: unknown, path: string) => checkSide(value, path, model.sideMultiple ?? model.factor)

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
  const extra = checkExtraInput(o, model.extraInput ?? 'none')
  const image = optional('image', copyImage, undefined)
  const mask = optional('mask', copyImage, undefined)
  if (mask !== undefined && image === undefined) throw new TypeError('Expected image, as mask was given')
  if (o.strength !== undefined && image === undefined)
    throw new TypeError('Expected image, as strength was given')
  const starts = image !== undefined && startsFromImage(extra.extraInput)
  if (o.latents !== undefined && starts && mask === undefined) {
    throw new TypeError('Expected either image or latents but received both')
  }
  const latentShape = [-1, model.latentChannels, -1, -1]
  const latents = optional('latents', (v, path) => copyTensor(v, path, latentShape), undefined)
  const preset = optional('preset', (v, path) => checkOneOf(v, path, presetNames), undefined)
  const usual = presetDefaults(preset ?? model.preset, model.embedsGuidance)
  const scheduler = optional('scheduler', checkScheduler, undefined)
  const steps = optional(
    'steps',
    integer(1, 1000),
    typeof scheduler === 'object' ? stepsOf(scheduler) : (usual.steps ?? defaults.steps),
  )
  if (o.schedulerOptions !== undefined && typeof scheduler === 'object') {
    throw new TypeError('Expected the name of a scheduler, as schedulerOptions was given')
  }
  const schedulerOptions = optional('schedulerOptions', checkSchedulerOptions, undefined)
  const seed = optional('seed', checkSeed, randomSeed())
  return {
    ...text,
    loras: optional('loras', checkLoras, []),
    batchSize,
    count,
    width,
    height,
    sizeGiven: o.width !== undefined || o.height !== undefined,
    steps,
    guidanceScale: optional(
      'guidanceScale',
      number(0, 100),
      usual.guidanceScale ?? model.guidanceScale ?? defaults.guidanceScale,
    ),
    guidanceRescale: optional('guidanceRescale', number(0, 1), defaults.guidanceRescale),
    seeds: Array.from({ length: count }, (_, i) => seedAfter(seed, i)),
    rng: optional('rng', (v, path) => checkOneOf(v, path, rngNames), defaults.rng),
    scheduler,
    schedulerOptions,
    ...(preset && presetScheduler(preset, steps, { scheduler, schedulerOptions })),
    clipSkip: optional('clipSkip', integer(0, Math.max(0, model.maxClipSkip)), defaults.clipSkip),
    weighting: optional('weighting', checkBoolean, defaults.weighting),
    image,
    strength: optional(
      'strength',
      number(0, 1),
      mask === undefined ? defaults.strength : defaults.inpaintStrength,
    ),
    mask,
    depth: optional('depth', copyImage, undefined),
    extraChannels: optional('extraChannels', (v, path) => copyTensor(v, path, [-1, -1, -1, -1]), undefined),
    latents,
    outputType: optional(
      'outputType',
      (v, path) => checkOneOf(v, path, ['image', 'latents']),
      defaults.outputType,
    ),
    decoder: checkDecoder(o.decoder, model),
    vaeTiling: checkTiling(o.vaeTiling),
    ...checkAcceleration(o, model),
    ...checkConditions(o, text.rows, model),
    imageEmbeds: checkImageEmbeds(o, extra.extraInput, model.unclip, count),
    controls: checkControls(o.controls, model.controlNets ?? []),
    imagePrompts: checkImagePrompts(o.imagePrompts, model.ipAdapters ?? []),
    embedsGuidance: model.embedsGuidance ?? false,
    ...extra,
    signal: checkSignal(o.signal),
    onStep: optional('onStep', checkFunction<(event: StepEvent) => unknown>, undefined),
  }
}

function checkDecoder(value: unknown, { tinyVae, onlyTinyVae }: ModelFacts): 'full' | 'tiny' {
  const usual = onlyTinyVae ? 'tiny' : 'full'
  const decoder = value === undefined ? usual : checkOneOf(value, 'decoder', ['full', 'tiny'] as const)
  if (decoder === 'tiny' && !tinyVae)
    throw new TypeError("Expected a pipeline loaded with tinyVae, as decoder 'tiny' was given")
  if (decoder === 'full' && onlyTinyVae)
    throw new TypeError("Expected 'tiny' for decoder, as this model has no autoencoder but a tiny one")
  return decoder
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
