import {
  applyLora,
  openIpAdapters,
  readEmbeddings,
  type AdapterReport,
  type IpAdapterSetting,
  type LoraSetting,
} from '../adapters/index.js'
import { abortReason, joinSignals, throwIfAborted } from '../abort.js'
import { checkObject } from '../check.js'
import { DiffusionError } from '../errors.js'
import { localPath } from '../hub/index.js'
import { modelFolder } from '../package-root.js'
import { native } from '../native.js'
import {
  anyImages,
  checkGenerateOptions,
  presetOfFiles,
  checkLoadOptions,
  enlargesImage,
  type GenerateOptions,
  type GenerateRequest,
  type LoadOptions,
  type LoadRequest,
  type ModelFacts,
} from '../options/index.js'
import { FairLock } from '../fair-lock.js'
import type { Tokenizer } from '../prompt/tokenizer.js'
import { openImageEncoder } from '../models/image-encoder.js'
import { imageEmbeddingWidth, usualUnclip } from '../models/families/unclip.js'
import { extraInputOf } from '../models/families/extra-input.js'
import { componentSummary, openModel, requireVariant, type ModelDescription } from '../models/index.js'
import { loadOnDevice, type Placement } from '../device/index.js'
import type { DeviceName } from '../types.js'
import { withParts } from '../models/parts.js'
import { AutoencoderKL } from './autoencoder.js'
import { deadlockSignal, runCallback } from './callbacks.js'
import { loadUnlessAborted } from './component.js'
import { openControl, type NamedControl } from './control-files.js'
import type { ControlModel } from './controls.js'
import { workingMemory, type MemoryNeeded } from './memory-plan.js'
import type { GenerateResult } from './result.js'
import { secondsNeeded, type DeviceEstimate, type Estimate } from './estimate.js'
import { setPrediction } from './find-prediction.js'
import { generate } from './generate.js'
import { takePromptLoras } from './prompt-loras.js'
import { withLoras, type RunParts } from './run-parts.js'
import { componentsOf, loadParts } from './load-parts.js'
import type { IpAdapter } from './ip-adapter.js'
import type { ModelInfo } from './model-info.js'
import { loadedComponents, type Parts } from './parts.js'
import { openRefiner } from './refiner.js'
import type { StepEvent } from '../step-event.js'
import { checkCompanions, checkConditions, pooledWidthOf } from './supported-conditions.js'
import type { AutoencoderTiny } from './tiny-autoencoder.js'
import type { TextEncoder } from './text-encoder.js'
import type { Unet } from './unet.js'

/** The default guidance scale of diffusers' pipelines that enlarge images. */
const UPSCALER_GUIDANCE = 9
/** That of its StableUnCLIPImg2ImgPipeline. */
const UNCLIP_GUIDANCE = 10

/** The options of generate() that its memory depends on. */
const memoryKeys = [
  'width', 'height', 'batchSize', 'guidanceScale', 'preset', 'decoder', 'vaeTiling', 'deepCache', 'tokenMerging', 'loras', 'controls', 'imagePrompts',
] as const satisfies (keyof GenerateOptions)[] // prettier-ignore

const estimateKeys = [
  ...memoryKeys, 'steps', 'scheduler', 'schedulerOptions',
] as const satisfies (keyof GenerateOptions)[] // prettier-ignore

/** The options of generate() that DiffusionPipeline.estimate() takes. */
export type EstimateOptions = Pick<GenerateOptions, (typeof estimateKeys)[number]>

/**
 * A latent diffusion model in memory.
 *
 * ```ts
 * await using pipe = await DiffusionPipeline.load()
 * const { images } = await pipe.generate({ prompt: 'noto pizza' })
 * await images[0].toFile('pizza.png')
 * ```
 *
 * Runs execute one at a time, in the order in which they were started. A run has the working memory and the
 * CPU to itself, waiting runs hold no memory, and an image does not depend on other callers.
 */
export class DiffusionPipeline {
  readonly model: ModelInfo
  /** Where it computes: what `device: 'auto'` took, or the device that was asked for. */
  readonly device: DeviceName
  /** Why `device: 'auto'` did not take a GPU. */
  readonly deviceReason?: string
  /** In the order in which the UNet's context joins their hidden states; empty if the model has none. */
  readonly textEncoders: readonly TextEncoder[]
  /** One for each text encoder; CLIP's own tokenizer if the model has none. */
  readonly tokenizers: readonly Tokenizer[]
  readonly unet: Unet
  /** The tiny autoencoder: the one that load() was given, or the model's own. */
  readonly tinyVae?: AutoencoderTiny
  /** The UNet of the refiner, if load() was given one. */
  readonly refiner?: Unet
  /** What each file of load()'s `loras`, then `embeddings` and `ipAdapters`, is and what it changed. */
  readonly adapters: readonly AdapterReport[]
  readonly #description: ModelDescription
  /** The ControlNets, ControlLLLites and T2I-Adapters of load()'s `controlNets`, in their order. */
  readonly controlNets: readonly ControlModel[]
  /** The IP-Adapters of load()'s `ipAdapters`, in their order. */
  readonly ipAdapters: readonly IpAdapter[]
  readonly #parts: Parts
  readonly #facts: ModelFacts
  readonly #lock = new FairLock()
  readonly #closing = new AbortController()
  #disposing?: Promise<void>

  private constructor(description: ModelDescription, parts: Parts, { device, reason }: Placement) {
    this.device = device
    this.deviceReason = reason
    const { textEncoders, tokenizers, unet, vae } = parts
    this.textEncoders = textEncoders
    this.tokenizers = tokenizers
    this.unet = unet
    this.tinyVae = parts.tinyVae
    this.refiner = parts.refiner?.unet
    this.adapters = parts.adapters
    this.#description = description
    this.controlNets = parts.controlNets
    this.ipAdapters = parts.ipAdapters
    this.#parts = parts
    const extraInput = extraInputOf(unet.config, vae.config.latentChannels)
    const sideMultiple = vae.factor * unet.sideMultiple
    this.#facts = {
      imageSize: Math.max(Math.floor(parts.imageSize / sideMultiple), 1) * sideMultiple,
      factor: vae.factor,
      sideMultiple,
      mergesTokens: !unet.config.kBlocks,
      tinyVae: parts.tinyVae !== undefined,
      onlyTinyVae: parts.vae === parts.tinyVae,
      latentChannels: vae.config.latentChannels,
      contextWidth: unet.config.contextWidth,
      maxDepth: unet.maxDepth,
      guidanceScale:
        description.guidanceScale ??
        (enlargesImage(extraInput) ? UPSCALER_GUIDANCE : parts.unclip && UNCLIP_GUIDANCE),
      pooledWidth: unet.config.added || unet.config.kBlocks ? pooledWidthOf(description) : undefined,
      preset: presetOfFiles(description.schedule.className, unet.config.guidanceWidth !== undefined),
      embedsGuidance: unet.config.guidanceWidth !== undefined,
      extraInput,
      unclip: parts.unclip && {
        width: imageEmbeddingWidth(unet.config)!,
        encodesImages: parts.unclip.imageEncoder !== undefined,
      },
      maxNoiseLevel:
        parts.lowResolution?.maxNoiseLevel ?? (parts.unclip && parts.unclip.schedule.trainTimesteps - 1),
      controlNets: parts.controlNets.map(({ residuals, types, masks }) => ({ residuals, types, masks })),
      ipAdapters: parts.ipAdapters.map(({ path, config, input, imageEncoder }) => ({
        path,
        width: config.projection.faceWidth ?? config.projection.width,
        hidden: input === 'hidden',
        encodes: imageEncoder !== undefined,
        face: input === 'face',
        facePicture: input === 'face-picture',
      })),
      refines: parts.refiner !== undefined,
      maxClipSkip:
        textEncoders.length > 0
          ? Math.min(...[...textEncoders, ...(parts.refiner?.textEncoders ?? [])].map((e) => e.maxClipSkip))
          : -1,
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
        vae: componentSummary((description.vae ?? description.tinyVae)!.source),
        ...(description.unclip?.imageEncoder && {
          imageEncoder: componentSummary(description.unclip.imageEncoder.source),
        }),
      },
      ...(parts.refiner && { refiner: parts.refiner.name }),
      warnings: parts.warnings,
      ...(description.trainedWords && { trainedWords: description.trainedWords }),
    }
  }

  /**
   * Loads a model.
   *
   * @param path a .safetensors, .gguf, .ckpt, .pt, .pth or .bin file, a diffusers folder, or `hf:owner/name` on the Hugging
   *   Face Hub, which is downloaded first (see pullModel()). Default: the small bundled model
   * @throws {TypeError} an option of the wrong type, or one that does not exist
   * @throws {RangeError} an option out of bounds
   * @throws {DiffusionError} MODEL_NOT_FOUND, MODEL_FORMAT, MODEL_SHAPE, UNSUPPORTED_MODEL (also for a LoRA of which
   *   nothing can be applied), OUT_OF_MEMORY, IO,
   *   NATIVE_UNAVAILABLE, DEVICE_UNAVAILABLE or DEVICE_LOST
   * @throws the signal's reason after an abort, within 100 ms
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

  /**
   * Estimates what a run takes, before anything is loaded: memory from the headers of the files, and time on the CPU from a
   * measurement of at most a second or so, which the process keeps. A prompt of one chunk is assumed, that every step is
   * computed in full, and no other load on the machine.
   *
   * With `device: 'cuda'` or `'cuda:1'`, memory is that of this GPU, which must be there, and there are no seconds. 'auto'
   * estimates the CPU.
   *
   * @param path as of load()
   * @param load as of load()
   * @param run options of generate() that memory and time depend on
   * @throws as load() and generate()
   */
  static estimate(
    path?: string,
    load?: LoadOptions & { device?: 'auto' | 'cpu' | undefined },
    run?: EstimateOptions,
  ): Promise<Estimate>
  static estimate(
    path: string | undefined,
    load: LoadOptions,
    run?: EstimateOptions,
  ): Promise<Estimate | DeviceEstimate>
  static async estimate(
    path: string = bundledModelPath(),
    load: LoadOptions = {},
    run: EstimateOptions = {},
  ): Promise<Estimate | DeviceEstimate> {
    if (typeof path !== 'string') throw new TypeError(`Expected string for path but received ${typeof path}`)
    const checked = checkLoadOptions(load)
    checkObject(run, 'options', estimateKeys)
    throwIfAborted(checked.signal)
    const device = checked.device === 'auto' ? 'cpu' : (checked.device ?? 'cpu')
    const planned = DiffusionPipeline.#load(path, { ...checked, device }, true)
    const pipe = await loadUnlessAborted(checked.signal, planned)
    try {
      const { request, length } = pipe.#sizedRequest(run)
      const memory = pipe.#memoryOf(request, length)
      if (pipe.device !== 'cpu') return { memory }
      const seconds = await secondsNeeded(pipe.#parts, pipe.#description, request, length, checked.signal)
      return { memory, seconds }
    } finally {
      await pipe.dispose()
    }
  }

  static async #load(path: string, options: LoadRequest, plan = false): Promise<DiffusionPipeline> {
    const {
      device,
      precision,
      kernels,
      threads,
      variant,
      loras,
      embeddings: files,
      controlNets,
      signal,
    } = options
    const find = (given: string) => localPath(given, signal, variant)
    const opened = await openModel(await find(path), { variant })
    requireVariant(opened, variant)
    const description = await withParts(opened, options, find)
    throwIfAborted(signal)
    const { unet, vae, tinyVae } = description
    if (!unet || !(vae ?? tinyVae)) {
      if (description.controlNet) {
        throw new DiffusionError(
          'UNSUPPORTED_MODEL',
          `${path}: this is a ControlNet, which guides a model and is not one itself: give it to load() as one of controlNets, with a model`,
        )
      }
      const [missing, option] = unet ? ['autoencoder', 'vae'] : ['UNet', 'unet']
      throw new DiffusionError(
        'UNSUPPORTED_MODEL',
        `${path}: expected a whole model, but it has no ${missing}: give one as the option ${option}`,
      )
    }
    if (options.imageEncoder !== undefined) {
      if (imageEmbeddingWidth(unet.config) === undefined)
        throw new TypeError('Expected no imageEncoder, as this model takes no embedding of an image')
      const imageEncoder = await openImageEncoder(await find(options.imageEncoder))
      description.unclip = { ...(description.unclip ?? usualUnclip()), imageEncoder }
    }
    checkConditions(description)
    checkCompanions(description, { controlNets, ipAdapters: options.ipAdapters, refiner: options.refiner })
    if (unet.config.kBlocks) {
      if (options.predictionType !== undefined && options.predictionType !== 'sample')
        throw new RangeError(
          `Expected 'sample' for predictionType, as this model predicts the denoised latents, but received '${options.predictionType}'`,
        )
      description.schedule = { ...description.schedule, predictionType: 'sample' }
    }
    if (options.predictionType !== undefined) setPrediction(description, options.predictionType)
    for (const key of ['rescaleBetasZeroSnr', 'timestepSpacing'] as const)
      if (options[key] !== undefined) description.schedule = { ...description.schedule, [key]: options[key] }
    const refiner =
      options.refiner === undefined ? undefined : await openRefiner(await find(options.refiner), description)
    const adapters: AdapterReport[] = []
    for (const lora of loras)
      adapters.push(await applyLora(description, { ...lora, path: await find(lora.path) }))
    const named: LoadRequest['embeddings'] = []
    for (const one of files) named.push({ ...one, path: await find(one.path) })
    const { embeddings, reports } = await readEmbeddings(description, named, signal)
    adapters.push(...reports)
    const found: IpAdapterSetting[] = []
    for (const { path: adapter, imageEncoder, ...more } of options.ipAdapters) {
      const encoder = imageEncoder === undefined ? {} : { imageEncoder: await find(imageEncoder) }
      found.push({ path: await find(adapter), ...encoder, ...more })
    }
    const images = await openIpAdapters({ ...description, unet }, found)
    adapters.push(...images.reports)
    const nets: NamedControl[] = []
    for (const given of controlNets)
      nets.push(await openControl(given, await find(given), { ...description, unet }, signal))
    throwIfAborted(signal)
    if (threads !== undefined) native().setThreads(threads)
    const whole = { ...description, unet }
    const extras = { adapters, embeddings, refiner, nets, ipAdapters: images.ipAdapters, plan }
    const sources = componentsOf(whole, extras).map(({ source }) => source)
    return loadOnDevice({ device, precision, kernels, sources, signal }, async (placement) => {
      const parts = await loadParts(whole, extras, options, placement)
      return new DiffusionPipeline(whole, parts, placement)
    })
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

  /**
   * The autoencoder.
   *
   * @throws {DiffusionError} UNSUPPORTED_MODEL: this model has none but a tiny one (SDXS)
   */
  get vae(): AutoencoderKL {
    const { vae } = this.#parts
    if (vae instanceof AutoencoderKL) return vae
    throw new DiffusionError(
      'UNSUPPORTED_MODEL',
      `${this.model.path} has no autoencoder but a tiny one: use tinyVae`,
    )
  }

  /** The first text encoder's tokenizer. */
  get tokenizer(): Tokenizer {
    return this.tokenizers[0]
  }

  /** Whether dispose() was called. */
  get disposed(): boolean {
    return this.#closing.signal.aborted
  }

  /** Number of runs that wait for their turn. */
  get waiting(): number {
    return this.#lock.waiting
  }

  /**
   * Generates images.
   *
   * @throws {TypeError} an option of the wrong type, or one that does not exist
   * @throws {RangeError} an option out of bounds
   * @throws {DiffusionError} OUT_OF_MEMORY; DISPOSED; IO: an image cannot be read; DEADLOCK: called and awaited in an
   *   onStep of this pipeline
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
   * Generates images step by step; the generator returns the result.
   *
   * ```ts
   * const steps = pipe.steps({ prompt })
   * let next
   * while (!(next = await steps.next()).done) show(next.value.preview)
   * const { images } = next.value
   * ```
   *
   * `for await (const event of steps)` yields the events but not the result, which `onResult` receives. Between two
   * steps other runs may have their turn. Leaving the loop ends the run.
   *
   * @throws as generate()
   */
  steps(
    options: GenerateOptions,
    onResult?: (result: GenerateResult) => void,
  ): AsyncGenerator<StepEvent, GenerateResult, undefined> {
    return this.#run(checkGenerateOptions(options, this.#facts), true, onResult)
  }

  /**
   * Estimates the memory of a run with these options, without allocating it. A prompt of one chunk is assumed, and of
   * LoRAs that they change every layer of the UNet and the text encoders.
   *
   * @throws as generate()
   */
  memoryNeeded(options: Pick<GenerateOptions, (typeof memoryKeys)[number]> = {}): MemoryNeeded {
    checkObject(options, 'options', memoryKeys)
    throwIfAborted(this.#closing.signal)
    const { request, length } = this.#sizedRequest(options)
    return this.#memoryOf(request, length)
  }

  #memoryOf(request: GenerateRequest, length: number): MemoryNeeded {
    const needed = workingMemory(this.#parts, request, length)
    if (request.loras.length === 0) return needed
    const changed = [this.unet, ...this.textEncoders].reduce((sum, { weightBytes }) => sum + weightBytes, 0)
    return { ...needed, weights: needed.weights + changed, total: needed.total + changed }
  }

  /** A run of these sizes, with any prompt and any images. */
  #sizedRequest(options: EstimateOptions): { request: GenerateRequest; length: number } {
    const length = this.tokenizer.maxLength
    const { pooledWidth } = this.#facts
    const text =
      this.textEncoders.length > 0
        ? { prompt: '' }
        : {
            promptEmbeds: {
              data: new Float32Array(length * this.unet.config.contextWidth),
              shape: [1, length, this.unet.config.contextWidth],
            },
            ...(pooledWidth !== undefined && {
              pooledPromptEmbeds: { data: new Float32Array(pooledWidth), shape: [1, pooledWidth] },
            }),
          }
    const all = { ...options, ...text, ...anyImages(this.#facts.extraInput) }
    return { request: checkGenerateOptions(all, this.#facts), length }
  }

  async *#run(
    given: GenerateRequest,
    /** Whether other runs may have their turn between two steps. */
    yields: boolean,
    onResult?: (result: GenerateResult) => void,
  ): AsyncGenerator<StepEvent, GenerateResult, undefined> {
    const joined = joinSignals(given.signal, this.#closing.signal)
    const { signal } = joined
    let release: (() => void) | undefined
    let finished = false
    let steps: ReturnType<typeof generate> | undefined
    let run: RunParts | undefined
    try {
      const { request, loras } = await takePromptLoras(given, this.#parts.loraFolder)
      const files: LoraSetting[] = []
      for (const one of given.loras) files.push({ ...one, path: await localPath(one.path, signal) })
      release = await this.#turn(signal)
      run = await withLoras(this.#parts, this.#description, [...files, ...loras], signal)
      steps = generate(run.parts, request, signal, yields || request.onStep !== undefined)
      for (;;) {
        const next = await steps.next()
        if (next.done) {
          finished = true
          onResult?.(next.value)
          return next.value
        }
        const { onStep } = request
        if (onStep) await runCallback(this, signal, () => onStep(next.value))
        throwIfAborted(signal)
        if (!yields) continue
        release()
        release = undefined
        yield next.value
        release = await this.#turn(signal)
      }
    } catch (error) {
      throw signal.aborted ? abortReason(signal) : error
    } finally {
      // The next run gets its turn when the memory is free, whatever fails here. An abort does not wait for that.
      const freed = this.#free(finished ? undefined : steps, run).finally(release)
      freed.catch(() => {})
      joined.release()
      if (!signal.aborted) await freed
      // A caller may await dispose() before this promise: until then nothing handles a rejection.
      if (!finished && this.disposed && !given.signal?.aborted) await this.#disposing
    }
  }

  /** Frees what a run holds. `steps` are those of a run that ends early. */
  async #free(steps: AsyncGenerator<unknown> | undefined, run: RunParts | undefined): Promise<void> {
    try {
      await steps?.return(undefined)
    } finally {
      try {
        if (steps) await this.#trim()
      } finally {
        await run?.dispose()
      }
    }
  }

  /** Waits for the turn of a run, unless that would never come. */
  async #turn(signal: AbortSignal): Promise<() => void> {
    const deadlock = deadlockSignal(this)
    if (!deadlock) return this.#lock.acquire(signal)
    const joined = joinSignals(signal, deadlock.signal)
    try {
      return await this.#lock.acquire(joined.signal)
    } finally {
      joined.release()
      deadlock.release()
    }
  }

  async #trim(): Promise<void> {
    await Promise.all([...loadedComponents(this.#parts)].map((part) => part.trim()))
  }

  /**
   * Frees the model. Running and waiting runs reject with a DiffusionError of code DISPOSED. Resolves when all memory
   * has been freed. Can be called at any time, also repeatedly.
   */
  dispose(): Promise<void> {
    this.#disposing ??= (async () => {
      const reason = new DiffusionError('DISPOSED', 'This pipeline has been disposed')
      this.#closing.abort(reason)
      await this.#lock.close(reason)
      await Promise.all([...loadedComponents(this.#parts)].map((part) => part.dispose()))
    })()
    return this.#disposing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }
}

/** The folder of the bundled model. */
export function bundledModelPath(): string {
  return modelFolder('emoji-64')
}
