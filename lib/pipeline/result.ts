import { basename } from 'node:path'
import { EMBEDDING, IP_ADAPTER, unplacedWarning, type AdapterReport } from '../adapters/index.js'
import {
  type GenerateRequest,
  accelerationSettings,
  controlSettings,
  imagePromptSettings,
  inInterval,
  enlargesImage,
  noisesImage,
  startsFromImage,
} from '../options/index.js'
import type { Image, ImageMetadata, ImageSize } from '../image/index.js'
import type { Scheduler, Tensor } from '../types.js'
import { isGuided } from './prompt.js'
import type { Parts } from './parts.js'
import { unclipWarnings } from './unclip.js'

/** Durations of the phases of a run in milliseconds, without the time that it waited for its turn. */
export interface Timings {
  /** Tokenizing and encoding of the prompts. */
  text: number
  /** Drawing noise, and reading and encoding the image to start from. */
  start: number
  denoise: number
  decode: number
  total: number
}

/** The result of generate(). */
export interface GenerateResult {
  /** In the order of the prompts, `batchSize` for each. Empty with outputType 'latents'. */
  images: Image[]
  /** The seed of each image: generate() with this seed alone gives the same image again. */
  seeds: (number | bigint)[]
  /** The parameters of each image with all defaults filled in. They are also written into files. */
  parameters: ImageMetadata[]
  timings: Timings
  /** What each LoRA and embedding is and what it changed: those of load(), then those of this call. */
  adapters: readonly AdapterReport[]
  /** Descriptions of what was probably not intended. */
  warnings: string[]
  /** With outputType 'latents': [n, c, h/8, w/8], scaled as in diffusion. */
  latents?: Tensor
}

/** Measures the phases of a run. */
export class Stopwatch {
  readonly #began = performance.now()
  #last = this.#began
  readonly #laps: Partial<Timings> = {}

  lap(name: keyof Timings): void {
    const now = performance.now()
    this.#laps[name] = now - this.#last
    this.#last = now
  }

  finish(): Timings {
    this.lap('total')
    return { text: 0, start: 0, denoise: 0, decode: 0, ...this.#laps, total: performance.now() - this.#began }
  }
}

/** The parameters of each image. */
export function imageMetadata(
  parts: Parts,
  request: GenerateRequest,
  scheduler: Scheduler,
): (i: number) => ImageMetadata {
  const { scheduler: given } = request
  const name = typeof given === 'string' ? given : given ? nameOf(scheduler) : parts.defaultScheduler
  return (i) => {
    const row = Math.floor(i / request.batchSize)
    return {
      prompt: (request.givenPrompts ?? request.prompts)[row] ?? '',
      negativePrompt: request.negativePrompts[row] || undefined,
      steps: request.steps,
      scheduler: name,
      guidanceScale: request.guidanceScale,
      seed: request.seeds[i],
      width: request.width,
      height: request.height,
      model: parts.name,
      strength:
        request.image !== undefined && startsFromImage(request.extraInput) ? request.strength : undefined,
      clipSkip: request.clipSkip || undefined,
      guidanceRescale: request.guidanceRescale || undefined,
      eta: request.schedulerOptions?.eta,
      rng: request.rng,
      extra: {
        ...lorasOf(parts),
        ...refinerOf(parts, request),
        ...controlSettings(request.controls, parts.controlNames),
        ...imagePromptSettings(
          request.imagePrompts,
          parts.ipAdapters.map(({ path }) => basename(path).replace(/\.[^.]+$/, '')),
        ),
        ...conditionsOf(request, row),
        ...accelerationSettings(request),
      },
    }
  }
}

/** For the metadata: what else an image of SDXL or InstructPix2Pix was drawn from. */
function conditionsOf(request: GenerateRequest, row: number): Record<string, string> {
  const { prompts2, negativePrompts2, originalSize, targetSize, cropTopLeft, extraInput } = request
  const size = ({ width, height }: ImageSize) => `${width}x${height}`
  const { top, left } = cropTopLeft
  return {
    ...(prompts2 && { 'Prompt 2': prompts2[row] }),
    ...(negativePrompts2 && { 'Negative prompt 2': negativePrompts2[row] }),
    ...(originalSize && { 'Original size': size(originalSize) }),
    ...(targetSize && { 'Target size': size(targetSize) }),
    ...((top > 0 || left > 0) && { 'Crop top left': `${top},${left}` }),
    ...(noisesImage(extraInput) && { 'Noise level': String(request.noiseLevel) }),
    ...(extraInput === 'image' && { 'Image CFG scale': String(request.imageGuidanceScale) }),
  }
}

/** For the metadata: in the words of web UIs. */
function refinerOf({ refiner }: Parts, { refinerStart }: GenerateRequest): Record<string, string | number> {
  if (!refiner || refinerStart === 1) return {}
  return { Refiner: refiner.name, 'Refiner switch at': refinerStart }
}

/** For the metadata: the LoRAs that are part of the weights. */
function lorasOf({ adapters }: Parts): Record<string, string> {
  const loras = adapters.filter(({ kind }) => kind !== EMBEDDING && kind !== IP_ADAPTER)
  if (loras.length === 0) return {}
  const names = loras.map(({ path, scale }) => `${basename(path).replace(/\.[^.]+$/, '')}: ${scale}`)
  return { Loras: names.join(', ') }
}

function nameOf(scheduler: Scheduler): string {
  const name = scheduler.constructor?.name
  return !name || name === 'Object' ? 'custom' : name
}

/** Warns of options that are allowed but probably not intended. */
export function optionWarnings(
  parts: Parts,
  request: GenerateRequest,
  scheduler: Scheduler,
  /** Indices of the first timestep, and of the refiner's first. */
  { begin, switchAt }: { begin: number; switchAt: number },
): string[] {
  const { width, height } = request
  const warnings = [
    ...modelWarnings(parts, request),
    ...parts.adapters.flatMap((adapter) => unplacedWarning(adapter) ?? []),
    ...optionsWithoutEffect(request),
    ...emptyRanges(request, scheduler, begin),
    ...unclipWarnings(parts.unclip, request),
    ...refinerWarnings(parts, request, scheduler, switchAt),
  ]
  const area = (width * height) / parts.imageSize ** 2
  // An enlarged image has the structure of the small one.
  if ((area < 0.4 || area > 2.5) && !enlargesImage(request.extraInput)) {
    warnings.push(
      `${width}×${height} is far from the ${parts.imageSize}×${parts.imageSize} that the model was trained at: ` +
        'expect repetition or a lack of structure',
    )
  }
  return warnings
}

/** Those of the files' own method do not matter where another one was asked for. */
function modelWarnings({ warnings }: Parts, { scheduler }: GenerateRequest): readonly string[] {
  return scheduler === undefined
    ? warnings
    : warnings.filter((warning) => !warning.startsWith('scheduler_config.json '))
}

/** Options that have no effect because of other options. */
function optionsWithoutEffect(request: GenerateRequest): string[] {
  const { negativePrompts, negativePromptEmbeds, guidanceRescale, guidanceInterval } = request
  const guidanceOnly = {
    negativePrompt: negativePrompts.some((text) => text !== ''),
    negativePromptEmbeds,
    guidanceRescale: guidanceRescale > 0,
    guidanceInterval,
  }
  const names = Object.entries(guidanceOnly).flatMap(([name, given]) => (given ? [name] : []))
  return [
    ...request.withoutEffect,
    ...(isGuided(request) ? [] : names).map(
      (name) => `${name} has no effect without guidance (guidanceScale above 1)`,
    ),
    ...(request.promptEmbeds && request.clipSkip > 0 ? ['clipSkip has no effect on promptEmbeds'] : []),
    ...(request.outputType === 'latents' && request.decoder === 'tiny'
      ? ["decoder has no effect with outputType 'latents'"]
      : []),
  ]
}

/** Options that leave no steps to run or to guide. */
function emptyRanges(request: GenerateRequest, scheduler: Scheduler, begin: number): string[] {
  const { strength, steps, guidanceInterval } = request
  const { timesteps, order = 1 } = scheduler
  if (begin >= timesteps.length)
    return [`strength ${strength} of ${steps} steps leaves no step: the image does not change`]
  if (!isGuided(request) || !guidanceInterval) return []
  for (let i = begin; i < timesteps.length; i++) if (inInterval(guidanceInterval, i, scheduler)) return []
  const [first, last] = [Math.floor(begin / order) + 1, Math.ceil(timesteps.length / order)]
  const run = first === last ? `step ${first} is not in` : `none of steps ${first} to ${last} is in`
  return [`${run} guidanceInterval [${guidanceInterval.join(', ')}]: there was no guidance`]
}

function refinerWarnings(
  { refiner }: Parts,
  { refinerStart, steps }: GenerateRequest,
  { timesteps }: Scheduler,
  switchAt: number,
): string[] {
  if (!refiner || refinerStart === 1 || switchAt < timesteps.length) return []
  return [`refinerStart ${refinerStart} of ${steps} steps leaves the refiner no step`]
}
