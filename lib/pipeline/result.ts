import { accelerationSettings, inInterval } from '../acceleration.js'
import type { Image, ImageMetadata } from '../image/index.js'
import type { GenerateRequest } from '../options.js'
import type { Scheduler, Tensor } from '../types.js'
import { isGuided } from './prompt.js'
import { unknownWords } from './unknown-words.js'
import type { Parts } from './parts.js'

/** Milliseconds that the parts of a run took, without waiting for its turn. */
export interface Timings {
  /** Tokenizer and text encoder. */
  text: number
  /** Noise; reading and encoding of an image to start from. */
  start: number
  denoise: number
  decode: number
  total: number
}

/** What generate() resolves to. */
export interface GenerateResult {
  /** In the prompts' order, `batchSize` of each. Empty with outputType 'latents'. */
  images: Image[]
  /** The seed of each image: generate() with it alone draws the same picture again. */
  seeds: (number | bigint)[]
  /** How each image was made, every default filled in; written into the files, too. */
  parameters: ImageMetadata[]
  timings: Timings
  /** What was probably not meant, in words. */
  warnings: string[]
  /** With outputType 'latents': [n, c, h/8, w/8], scaled as diffusion has them. */
  latents?: Tensor
}

/** Measures one stretch after the other. */
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

/** Says for image i how it was made. */
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
      prompt: request.prompts[row] ?? '',
      negativePrompt: request.negativePrompts[row] || undefined,
      steps: request.steps,
      scheduler: name,
      guidanceScale: request.guidanceScale,
      // A bigint is written in full; the field's type says number for those who read it.
      seed: request.seeds[i],
      width: request.width,
      height: request.height,
      model: parts.name,
      strength: request.image === undefined ? undefined : request.strength,
      clipSkip: request.clipSkip || undefined,
      guidanceRescale: request.guidanceRescale || undefined,
      eta: request.schedulerOptions?.eta,
      rng: request.rng === 'torch' ? undefined : request.rng,
      extra: accelerationSettings(request),
    }
  }
}

function nameOf(scheduler: Scheduler): string {
  const name = scheduler.constructor?.name
  return !name || name === 'Object' ? 'custom' : name
}

/** Options that are allowed but most likely do not do what was meant. */
export function warningsFor(
  parts: Parts,
  request: GenerateRequest,
  scheduler: Scheduler,
  /** The first of its timesteps that is used. */
  begin: number,
): string[] {
  const warnings: string[] = []
  const { prompts, negativePrompts, width, height } = request
  const unknown = [
    ...new Set(
      parts.tokenizers.flatMap((tokenizer) =>
        [...prompts, ...negativePrompts].flatMap((text) => tokenizer.unknownWords(text)),
      ),
    ),
  ]
  if (unknown.length > 0) {
    warnings.push(
      `This model's vocabulary cannot spell: ${unknown.slice(0, 10).join(', ')}. The prompt ends there`,
    )
  }
  const untaught = parts.trainedWords
    ? unknownWords(parts.trainedWords, [...prompts, ...negativePrompts])
    : []
  if (untaught.length > 0) {
    warnings.push(`This model was not taught ${untaught.slice(0, 10).join(', ')}: what it draws is a guess`)
  }
  warnings.push(...optionsWithoutEffect(request), ...emptyRanges(request, scheduler, begin))
  const area = (width * height) / parts.imageSize ** 2
  if (area < 0.4 || area > 2.5) {
    warnings.push(
      `${width}×${height} is far from the ${parts.imageSize}×${parts.imageSize} that this model was trained at: ` +
        'expect repetition or a lack of structure',
    )
  }
  return warnings
}

/** Options that others leave without effect. */
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
    ...(isGuided(request) ? [] : names).map(
      (name) => `${name} has no effect without guidance (guidanceScale above 1)`,
    ),
    ...(request.promptEmbeds && request.clipSkip > 0 ? ['clipSkip has no effect on promptEmbeds'] : []),
    ...(request.outputType === 'latents' && request.decoder === 'tiny'
      ? ["decoder has no effect with outputType 'latents'"]
      : []),
  ]
}

/** Ranges of steps that hold none. */
function emptyRanges(request: GenerateRequest, scheduler: Scheduler, begin: number): string[] {
  const { strength, steps, guidanceInterval } = request
  const { timesteps, order = 1 } = scheduler
  if (begin >= timesteps.length)
    return [`strength ${strength} of ${steps} steps leaves none: the image stays what it is`]
  if (!isGuided(request) || !guidanceInterval) return []
  for (let i = begin; i < timesteps.length; i++) if (inInterval(guidanceInterval, i, scheduler)) return []
  const [first, last] = [Math.floor(begin / order) + 1, Math.ceil(timesteps.length / order)]
  const run = first === last ? `step ${first} is not in` : `none of steps ${first} to ${last} is in`
  return [`${run} guidanceInterval [${guidanceInterval.join(', ')}]: there was no guidance`]
}
