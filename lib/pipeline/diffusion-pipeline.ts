import { basename, join } from 'node:path'
import { abortReason, joinSignals, raceAbort, throwIfAborted } from '../abort.js'
import { checkObject } from '../check.js'
import { DiffusionError } from '../errors.js'
import { packageRoot } from '../package-root.js'
import { native } from '../native.js'
import {
  checkGenerateOptions,
  checkLoadOptions,
  type GenerateOptions,
  type GenerateRequest,
  type LoadOptions,
  type ModelFacts,
} from '../options.js'
import { FairLock } from '../fair-lock.js'
import { defaultSchedulerName, type SchedulerName } from '../schedulers/index.js'
import { Tokenizer } from '../tokenizer/tokenizer.js'
import {
  componentSummary,
  openModel,
  type ComponentSummary,
  type ModelDescription,
  type ScheduleDescription,
  type TextEncoderDescription,
} from '../weights/index.js'
import { AutoencoderKL } from './autoencoder.js'
import { loadUnlessAborted } from './component.js'
import { chooseResidency, workingMemory, type MemoryNeeded } from './memory-plan.js'
import type { GenerateResult } from './result.js'
import { generate } from './generate.js'
import type { Parts } from './parts.js'
import type { StepEvent } from '../step-event.js'
import { AutoencoderTiny } from './tiny-autoencoder.js'
import { TextEncoder } from './text-encoder.js'
import { Unet } from './unet.js'

/** Options of generate() that its memory depends on. */
const memoryKeys = [
  'width', 'height', 'batchSize', 'guidanceScale', 'decoder', 'vaeTiling', 'deepCache', 'tokenMerging',
] as const satisfies (keyof GenerateOptions)[] // prettier-ignore

/** What a loaded model is. */
export interface ModelInfo {
  path: string
  format: ModelDescription['format']
  /** 'Stable Diffusion 1.x', … */
  architecture: string
  /** Pixels a side that it was trained at. */
  imageSize: number
  /** Pixels a side of one latent: width and height are multiples of it. */
  factor: number
  schedule: ScheduleDescription
  defaultScheduler: SchedulerName
  /** Sizes and element types as stored. */
  components: { textEncoders: ComponentSummary[]; unet: ComponentSummary; vae: ComponentSummary }
  /** Every word of the captions that the model was trained on; only small models list them. */
  trainedWords?: readonly string[]
}

/**
 * A latent diffusion model in memory, ready to draw.
 *
 * ```ts
 * await using pipe = await DiffusionPipeline.load()
 * const { images } = await pipe.generate({ prompt: 'noto pizza' })
 * await images[0].toFile('pizza.png')
 * ```
 *
 * Calls are served one after the other in the order in which they came, whole runs at a time: a run has the working memory
 * and the CPU to itself, a caller's picture does not depend on who else calls, and who waits holds no memory.
 */
export class DiffusionPipeline {
  readonly model: ModelInfo
  /** In the order in which the UNet's context joins their hidden states; empty where the model has none. */
  readonly textEncoders: readonly TextEncoder[]
  /** One for each text encoder; CLIP's own where the model has none. */
  readonly tokenizers: readonly Tokenizer[]
  readonly unet: Unet
  readonly vae: AutoencoderKL
  /** The tiny autoencoder, where load() was given one. */
  readonly tinyVae?: AutoencoderTiny
  readonly #parts: Parts
  readonly #facts: ModelFacts
  readonly #lock = new FairLock()
  readonly #closing = new AbortController()
  #disposing?: Promise<void>

  private constructor(description: ModelDescription, parts: Parts) {
    const { textEncoders, tokenizers, unet, vae } = parts
    this.textEncoders = textEncoders
    this.tokenizers = tokenizers
    this.unet = unet
    this.vae = vae
    this.tinyVae = parts.tinyVae
    this.#parts = parts
    this.#facts = {
      imageSize: Math.max(Math.floor(parts.imageSize / vae.factor), 1) * vae.factor,
      factor: vae.factor,
      tinyVae: parts.tinyVae !== undefined,
      latentChannels: vae.config.latentChannels,
      contextWidth: unet.config.contextWidth,
      maxDepth: unet.maxDepth,
      guidanceScale: description.guidanceScale,
      maxClipSkip: textEncoders.length > 0 ? Math.min(...textEncoders.map((e) => e.maxClipSkip)) : -1,
    }
    this.model = {
      path: description.path,
      format: description.format,
      architecture: description.architecture,
      imageSize: description.imageSize,
      factor: vae.factor,
      schedule: description.schedule,
      defaultScheduler: parts.defaultScheduler,
      components: {
        textEncoders: description.textEncoders.map(({ source }) => componentSummary(source)),
        unet: componentSummary(description.unet!.source),
        vae: componentSummary(description.vae!.source),
      },
      ...(description.trainedWords && { trainedWords: description.trainedWords }),
    }
  }

  /**
   * Loads a model.
   *
   * @param path a .safetensors or .gguf file, or a diffusers folder; without it, the small model in the box
   * @throws {DiffusionError} MODEL_NOT_FOUND, MODEL_FORMAT, MODEL_SHAPE, UNSUPPORTED_MODEL, OUT_OF_MEMORY, IO, or
   *   NATIVE_UNAVAILABLE
   */
  static async load(
    path: string = bundledModelPath(),
    options: LoadOptions = {},
  ): Promise<DiffusionPipeline> {
    if (typeof path !== 'string') throw new TypeError(`Expected string for path but received ${typeof path}`)
    const checked = checkLoadOptions(options)
    throwIfAborted(checked.signal)
    return loadUnlessAborted(checked.signal, DiffusionPipeline.#load(path, checked))
  }

  static async #load(
    path: string,
    { threads, precision, tinyVae, lowMemory, signal }: LoadOptions,
  ): Promise<DiffusionPipeline> {
    const description = await openModel(path)
    throwIfAborted(signal)
    const { unet, vae, textEncoders } = description
    if (!unet || !vae) {
      const missing = unet ? 'an autoencoder' : 'a UNet'
      throw new DiffusionError(
        'UNSUPPORTED_MODEL',
        `${path}: expected a whole model, but it has not ${missing}`,
      )
    }
    for (const part of [unet, vae, ...textEncoders]) if (precision) part.source.precision = precision
    const { savesMemory } = chooseResidency({ unet, vae, textEncoders }, lowMemory)
    if (threads !== undefined) native().setThreads(threads)
    const loaded: { dispose(): Promise<void> }[] = []
    const keep = <T extends { dispose(): Promise<void> }>(part: T): T => {
      loaded.push(part)
      return part
    }
    try {
      const tokenizers = await loadTokenizers(textEncoders)
      // One after the other: loading takes memory beyond the weights, and more threads would not make it faster.
      const parts: Parts = {
        // First, as the quickest to find fault with.
        tinyVae:
          tinyVae === undefined
            ? undefined
            : keep(await AutoencoderTiny.load(tinyVae, { precision, signal })),
        name: basename(description.path).replace(/\.(safetensors|gguf)$/i, ''),
        tokenizers,
        textEncoders: await loadTextEncoders(textEncoders, tokenizers, signal, keep),
        unet: keep(await Unet.load(unet, { signal })),
        vae: keep(await AutoencoderKL.from(vae, { signal })),
        schedule: description.schedule,
        defaultScheduler: defaultSchedulerName(description.schedule),
        imageSize: description.imageSize,
        savesMemory,
        trainedWords: description.trainedWords && new Set(description.trainedWords),
      }
      checkTinyVae(parts, tinyVae)
      throwIfAborted(signal)
      return new DiffusionPipeline(description, parts)
    } catch (error) {
      await Promise.all(loaded.map((part) => part.dispose()))
      throw error
    }
  }

  /**
   * The first text encoder.
   *
   * @throws {DiffusionError} UNSUPPORTED_MODEL: this model has none
   */
  get textEncoder(): TextEncoder {
    if (this.textEncoders.length > 0) return this.textEncoders[0]
    throw new DiffusionError('UNSUPPORTED_MODEL', `${this.model.path} has no text encoder`)
  }

  /** The first text encoder's tokenizer. */
  get tokenizer(): Tokenizer {
    return this.tokenizers[0]
  }

  /** Whether dispose() was called. */
  get disposed(): boolean {
    return this.#closing.signal.aborted
  }

  /** Calls that wait for their turn. */
  get waiting(): number {
    return this.#lock.waiting
  }

  /**
   * Draws.
   *
   * @throws {TypeError} an option of the wrong type, or one that does not exist
   * @throws {RangeError} an option out of bounds
   * @throws {DiffusionError} OUT_OF_MEMORY, DISPOSED; IO for an image that cannot be read
   * @throws the signal's reason after an abort, within 100 ms
   */
  async generate(options: GenerateOptions): Promise<GenerateResult> {
    const steps = this.#run(checkGenerateOptions(options, this.#facts), false)
    for (;;) {
      const next = await steps.next()
      if (next.done) return next.value
    }
  }

  /**
   * The same, step by step; the generator returns the result.
   *
   * ```ts
   * const steps = pipe.steps({ prompt })
   * let next
   * while (!(next = await steps.next()).done) show(next.value.preview)
   * const { images } = next.value
   * ```
   *
   * `for await (const event of steps)` gives the events alone; `onResult` gets the result then. While the caller holds a
   * step, others may have their turn. Leaving the loop ends the run.
   */
  steps(
    options: GenerateOptions,
    onResult?: (result: GenerateResult) => void,
  ): AsyncGenerator<StepEvent, GenerateResult, undefined> {
    return this.#run(checkGenerateOptions(options, this.#facts), true, onResult)
  }

  /** Bytes that such a run takes; nothing is allocated. A prompt of one chunk is assumed. */
  memoryNeeded(options: Pick<GenerateOptions, (typeof memoryKeys)[number]> = {}): MemoryNeeded {
    checkObject(options, 'options', memoryKeys)
    throwIfAborted(this.#closing.signal)
    const length = this.tokenizer.maxLength
    const text =
      this.textEncoders.length > 0
        ? { prompt: '' }
        : {
            promptEmbeds: {
              data: new Float32Array(length * this.unet.config.contextWidth),
              shape: [1, length, this.unet.config.contextWidth],
            },
          }
    return workingMemory(this.#parts, checkGenerateOptions({ ...text, ...options }, this.#facts), length)
  }

  async *#run(
    request: GenerateRequest,
    sharing: boolean,
    onResult?: (result: GenerateResult) => void,
  ): AsyncGenerator<StepEvent, GenerateResult, undefined> {
    const either = joinSignals(request.signal, this.#closing.signal)
    const { signal } = either
    let release: (() => void) | undefined
    let finished = false
    let steps: ReturnType<typeof generate> | undefined
    try {
      release = await this.#lock.acquire(signal)
      steps = generate(this.#parts, request, signal, sharing || request.onStep !== undefined)
      for (;;) {
        const next = await steps.next()
        if (next.done) {
          finished = true
          onResult?.(next.value)
          return next.value
        }
        await raceAbort(signal, request.onStep?.(next.value))
        if (!sharing) continue
        release()
        release = undefined
        yield next.value
        release = await this.#lock.acquire(signal)
      }
    } catch (error) {
      throw signal.aborted ? abortReason(signal) : error
    } finally {
      // Whatever happens in here, the next caller must get its turn.
      try {
        either.release()
        if (!finished) {
          void steps?.return(undefined as never)
          this.#trim()
        }
      } finally {
        release?.()
      }
    }
  }

  #trim(): void {
    for (const part of this.#components()) part.trim()
  }

  #components() {
    return [...this.textEncoders, this.unet, this.vae, this.tinyVae].filter((part) => part !== undefined)
  }

  /**
   * Frees the model. Runs under way and those that wait reject with a DiffusionError of code DISPOSED; resolves when all
   * memory has been given back. May be called at any time, and more than once.
   */
  dispose(): Promise<void> {
    this.#disposing ??= (async () => {
      const reason = new DiffusionError('DISPOSED', 'This pipeline was disposed of')
      this.#closing.abort(reason)
      await this.#lock.close(reason)
      await Promise.all(this.#components().map((part) => part.dispose()))
    })()
    return this.#disposing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }
}

/** A tokenizer for each text encoder. Without any, CLIP's own says how long a chunk of prompt embeddings is. */
async function loadTokenizers(descriptions: readonly TextEncoderDescription[]): Promise<Tokenizer[]> {
  const tokenizers: Tokenizer[] = []
  for (const { tokenizer, config } of descriptions)
    tokenizers.push(await Tokenizer.create(tokenizer, config.maxPositions))
  return tokenizers.length > 0 ? tokenizers : [await Tokenizer.create(null)]
}

async function loadTextEncoders(
  descriptions: readonly TextEncoderDescription[],
  tokenizers: readonly Tokenizer[],
  signal: AbortSignal | undefined,
  keep: (loaded: TextEncoder) => TextEncoder,
): Promise<TextEncoder[]> {
  const textEncoders: TextEncoder[] = []
  for (const [i, description] of descriptions.entries())
    textEncoders.push(keep(await TextEncoder.load(description, tokenizers[i].maxLength, { signal })))
  return textEncoders
}

/** The tiny autoencoder must read this model's latents. */
function checkTinyVae({ vae, tinyVae }: Parts, path: string | undefined): void {
  if (!tinyVae) return
  const [wanted, found] = [vae, tinyVae].map(
    (v) => `${v.config.latentChannels} latent channels and factor ${v.factor}`,
  )
  if (wanted !== found)
    throw new DiffusionError(
      'UNSUPPORTED_MODEL',
      `${path}: expected ${wanted} as in the model, found ${found}`,
    )
}

/** Folder of the model that the package brings along. */
export function bundledModelPath(): string {
  return join(packageRoot(), 'models', 'emoji-64')
}
