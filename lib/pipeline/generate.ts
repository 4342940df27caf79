/** The denoising run: prompt → context, noise → latents, the denoising loop, latents → images. */
import { throwIfAborted } from '../abort.js'
import type { GenerateRequest, TilingOption } from '../options/index.js'
import { checkTensor } from '../check.js'
import type { Image } from '../image/index.js'
import { requireDeviceMemory, requireMemory } from '../memory.js'
import { randomForBatch } from '../random/index.js'
import { createScheduler } from '../schedulers/index.js'
import { TimeSlice } from '../time-slice.js'
import type { StepEvent } from '../step-event.js'
import type { Scheduler, Tensor } from '../types.js'
import { controlPicture } from '../control/picture.js'
import { Controls } from './controls.js'
import { Denoiser, furtherChannels } from './denoiser.js'
import { FiniteNumbers } from './finite.js'
import { ImagePrompts } from './image-prompts.js'
import { loadInitImage } from './init-image.js'
import { watchNumbers, type DeviceTensors } from './device-tensors.js'
import { keepOutsideMask, prepareLatents, type KeptImage } from './initial-latents.js'
import { tilingNow, workingMemory } from './memory-plan.js'
import type { Parts } from './parts.js'
import { preconditioning } from './precondition.js'
import { conditioningFromEmbeds, encodePrompts, isGuided, tokenizePrompts } from './prompt.js'
import { promptWarnings } from './prompt-warnings.js'
import { refinerBegin, type Refiner } from './refiner.js'
import { imageMetadata, optionWarnings, Stopwatch, type GenerateResult } from './result.js'
import { stepEvent } from './step.js'
import { rows, scale } from './tensors.js'
import { conditionOnImage, embedImages } from './unclip.js'

/** Runs the steps one by one; the generator returns the result. */
export async function* generate(
  parts: Parts,
  asked: GenerateRequest,
  signal: AbortSignal,
  /** Whether steps are observed. Only then does the tiny autoencoder decode previews. */
  observed: boolean,
): AsyncGenerator<StepEvent, GenerateResult, undefined> {
  const { unet, vae } = parts
  const given = parts.unet.config.kBlocks ? withoutUnwantedPrompt(asked) : asked
  const stopwatch = new Stopwatch()
  const slice = new TimeSlice(signal)
  const tokens = given.promptEmbeds ? undefined : await tokenizePrompts(parts.tokenizers, given, slice)
  const length = tokens?.length ?? given.promptEmbeds!.shape[1]
  /** Chosen when memory is checked, which is before an image is decoded. */
  let vaeTiling: TilingOption | undefined
  const loaded = await loadInitImage(given, {
    factor: vae.factor,
    sideMultiple: vae.factor * unet.sideMultiple,
    latentChannels: vae.config.latentChannels,
    imageSize: parts.imageSize,
    signal,
    slice,
    requireMemory: (asked) => {
      vaeTiling = tilingNow(parts, asked, length)
      const { working, total } = workingMemory(parts, { ...asked, vaeTiling }, length)
      const free = unet.freeDeviceMemory()
      const what = `${asked.count} × ${asked.width}×${asked.height} (batchSize × width×height)`
      if (free === undefined) requireMemory(total, what)
      else requireDeviceMemory(working, what, { device: unet.device, free })
    },
  })
  const { request: sized, initImage, depth } = loaded
  const request = { ...sized, vaeTiling }
  const scheduler = makeScheduler(parts, request)
  const random = randomForBatch(request.rng, request.seeds[0], request.count)
  const { timesteps, sigmas } = scheduler
  const { refiner } = parts
  const switchAt = refiner
    ? refinerBegin(scheduler, request.refinerStart, parts.schedule.trainTimesteps)
    : timesteps.length
  const refines = refiner !== undefined && switchAt < timesteps.length

  let conditioning = tokens
    ? await encodePrompts(parts, tokens, request, { signal }, slice)
    : await conditioningFromEmbeds(parts, request, { signal }, slice)
  for (const textEncoder of parts.textEncoders) await textEncoder.trim()
  const numbers = new FiniteNumbers(slice)
  await numbers.check(tokens ? 'text encoder' : 'promptEmbeds', conditioning.context)
  if (parts.unclip) {
    const embeds = await embedImages(parts.unclip, request, { signal })
    await numbers.check(request.imageEmbeds ? 'imageEmbeds' : 'image embedding', embeds)
    const { count, noiseLevel } = request
    const drawn = { count, noiseLevel, guided: isGuided(request) }
    conditioning = await conditionOnImage(conditioning, embeds, parts.unclip, drawn, random, slice)
  }
  const refined = refines ? await encodeForRefiner(refiner, request, signal, slice) : undefined
  if (refined) await numbers.check('text encoder', refined.conditioning.context)
  stopwatch.lap('text')

  if (request.latents) await numbers.check('latents', request.latents)
  if (initImage) await numbers.check('image', initImage.image)
  if (depth) await numbers.check('depth', depth)
  const { lowResolution } = parts
  const start = await prepareLatents({
    request,
    scheduler,
    random,
    vae,
    lowResolution,
    initImage,
    refines,
    depth,
    signal,
    slice,
  })
  await numbers.check(initImage ? 'image encoder' : 'scheduler', start.latents)
  checkChannels(parts, request, start.extraChannels)
  scheduler.reset?.({ random, begin: start.begin })
  const warnings = [
    ...loaded.warnings,
    ...(await promptWarnings(parts, request, slice)),
    ...optionWarnings(parts, request, scheduler, { begin: start.begin, switchAt }),
  ]
  await vae.trim()
  const controls = await startControls(parts, request, signal, slice)
  const imagePrompts = await startImagePrompts(parts, request, signal, slice).catch(
    async (error: unknown) => {
      await controls?.dispose()
      throw error
    },
  )
  stopwatch.lap('start')

  const { begin } = start
  const further = furtherChannels(start.extraChannels, request)
  const device = keepTensors(parts, request, start.latents, further)
  let latents = device?.put(start.latents) ?? start.latents
  const kept = start.kept && device ? putImage(start.kept, device) : start.kept
  const calls = { scheduler, signal }
  const first = {
    ...calls,
    conditioning,
    further,
    controls,
    images: imagePrompts,
    ...(unet.config.kBlocks && { precondition: preconditioning(parts.schedule, scheduler) }),
    begin,
    end: switchAt,
  }
  let denoiser = new Denoiser(unet, request, first)
  try {
    for (let i = begin; i < timesteps.length; i++) {
      if (refined && i === Math.max(switchAt, begin)) {
        await denoiser.dispose()
        await unet.trim()
        await controls?.trim()
        denoiser = new Denoiser(refiner!.unet, refined.request, {
          ...calls,
          conditioning: refined.conditioning,
          begin: i,
          end: timesteps.length,
        })
        // As in diffusers, multistep methods begin anew.
        if (i > begin) scheduler.reset?.({ random, begin: i })
      }
      const timestep = timesteps[i]
      const { shape } = latents
      const scaled = checkTensor(
        scheduler.scaleModelInput(latents, timestep),
        'the result of scheduler.scaleModelInput',
        shape,
      )
      const prediction = await denoiser.predict(scaled, i)
      await numbers.check('UNet', prediction)
      latents = checkTensor(
        scheduler.step(prediction, timestep, latents),
        'the result of scheduler.step',
        shape,
      )
      device?.checkLatents(latents)
      await numbers.check('scheduler', latents)
      // A UNet that takes the mask keeps what is outside it by itself.
      if (kept && (i >= switchAt || request.extraInput !== 'masked-image'))
        latents = keepOutsideMask(kept, latents, scheduler, i)
      device?.endStep(latents, scheduler, kept)
      const estimate = scheduler.denoised ?? latents
      const [shown, denoised] =
        device && observed ? await device.fetch([latents, estimate], signal) : [latents, estimate]
      const facts = {
        step: i + 1 - begin,
        steps: timesteps.length - begin,
        timestep,
        sigma: sigmas?.[i],
        latents: shown,
      }
      const preview =
        parts.tinyVae && observed
          ? (await parts.tinyVae.decodeImage(rows(denoised, 0), { signal, tiling: vaeTiling })).image
          : undefined
      const isChanged = device && observed ? watchNumbers(shown) : undefined
      yield stepEvent(facts, denoised, vae.scalingFactor, preview)
      if (isChanged?.()) latents = device!.put(shown)
      throwIfAborted(signal)
    }
    await controls?.trim()
    if (device) [latents] = await device.fetch([latents], signal)
    if (device?.culprit) numbers.blame(device.culprit)
  } finally {
    // The autoencoder needs the memory, and so may the next run.
    const parts = [denoiser, device, controls, imagePrompts]
    await Promise.all(parts.map(async (part) => part?.dispose()))
  }
  await denoiser.unet.trim()
  stopwatch.lap('denoise')

  const images: Image[] = []
  const metadata = imageMetadata(parts, request, scheduler)
  for (let i = 0; i < request.count && request.outputType === 'image'; i++) {
    const one = rows(latents, i)
    const { image, finite } =
      request.decoder === 'tiny'
        ? await parts.tinyVae!.decodeImage(one, { signal, tiling: vaeTiling })
        : await vae.decodeImage(scale(one, 1 / vae.scalingFactor), { signal, tiling: vaeTiling })
    if (!finite) numbers.blame('decoder')
    image.metadata = metadata(i)
    images.push(image)
  }
  await vae.trim()
  await parts.tinyVae?.trim()
  stopwatch.lap('decode')
  warnings.push(...numbers.warnings)
  return {
    images,
    seeds: request.seeds,
    parameters: Array.from({ length: request.count }, (_, i) => metadata(i)),
    timings: stopwatch.finish(),
    adapters: parts.adapters,
    warnings,
    ...(request.outputType === 'latents' ? { latents } : {}),
  }
}

/** As in diffusers, the ×2 latent upscaler goes by the image alone where the guidance scale is 0. */
function withoutUnwantedPrompt(request: GenerateRequest): GenerateRequest {
  const { guidanceScale, prompts, givenPrompts = prompts } = request
  if (guidanceScale > 0 || prompts.length === 0) return request
  return { ...request, prompts: prompts.map(() => ''), givenPrompts }
}

/** The refiner's conditioning, and the request as it applies to the refiner: it takes latents alone. */
async function encodeForRefiner(
  refiner: Refiner,
  given: GenerateRequest,
  signal: AbortSignal,
  slice: TimeSlice,
) {
  const request: GenerateRequest = { ...given, embedsGuidance: false, extraInput: 'none' }
  const tokens = await tokenizePrompts(refiner.tokenizers, request, slice)
  const conditioning = await encodePrompts(refiner, tokens, request, { signal }, slice)
  for (const textEncoder of refiner.textEncoders) await textEncoder.trim()
  return { request, conditioning }
}

/** Reads and embeds the pictures of ControlNets. */
async function startControls(
  { controlNets }: Parts,
  request: GenerateRequest,
  signal: AbortSignal,
  slice: TimeSlice,
): Promise<Controls | undefined> {
  const { controls, count, width, height } = request
  if (controls.length === 0) return undefined
  const pictures: Tensor[] = []
  for (const [i, control] of controls.entries())
    pictures.push(
      await controlPicture(control, `controls[${i}]`, { size: { width, height }, count, signal, slice }),
    )
  return Controls.start(controlNets, request, pictures, signal)
}

/** Encodes the images of image prompts. */
async function startImagePrompts(
  { ipAdapters, vae: { factor } }: Parts,
  request: GenerateRequest,
  signal: AbortSignal,
  slice: TimeSlice,
): Promise<ImagePrompts | undefined> {
  if (request.imagePrompts.length === 0) return undefined
  const latents = { h: request.height / factor, w: request.width / factor }
  return ImagePrompts.start(ipAdapters, request, latents, signal, slice)
}

/**
 * Keeps the run's tensors in the GPU's memory, unless something in the loop computes with them elsewhere: a caller's
 * scheduler, the preconditioning of the ×2 upscaler, or a refiner on another device.
 */
function keepTensors(
  { unet, refiner }: Parts,
  { scheduler }: GenerateRequest,
  latents: Tensor,
  further: Tensor | undefined,
): DeviceTensors | undefined {
  const { outChannels, kBlocks } = unet.config
  if (typeof scheduler === 'object' || kBlocks) return undefined
  if (latents.shape[1] !== outChannels || (refiner && refiner.unet.device !== unet.device)) return undefined
  return unet.keepTensors(latents.shape, further)
}

function putImage({ image, noise, mask }: KeptImage, device: DeviceTensors): KeptImage {
  return { image: device.put(image), noise: device.put(noise), mask: device.put(mask) }
}

/** The scheduler of a run: the one that was asked for, or the model's. */
export function makeScheduler(
  parts: Pick<Parts, 'defaultScheduler' | 'schedule'>,
  { scheduler, schedulerOptions, steps }: Pick<GenerateRequest, 'scheduler' | 'schedulerOptions' | 'steps'>,
): Scheduler {
  if (typeof scheduler === 'object') return scheduler
  return createScheduler(scheduler ?? parts.defaultScheduler, steps, parts.schedule, schedulerOptions)
}

function checkChannels(
  { unet, vae }: Parts,
  { width, height, count }: GenerateRequest,
  extra: Tensor[],
): void {
  const has = vae.config.latentChannels + extra.reduce((sum, { shape }) => sum + shape[1], 0)
  const { inChannels } = unet.config
  if (has !== inChannels) {
    const missing = inChannels - vae.config.latentChannels
    const hint = missing === 0 ? 'none' : `${missing} channels`
    throw new RangeError(
      `Expected ${hint} for extraChannels, as this model's UNet takes ${inChannels} channels, but received ${has - vae.config.latentChannels}`,
    )
  }
  const [h, w] = [height / vae.factor, width / vae.factor]
  for (const { shape } of extra) {
    if (![1, count].includes(shape[0]) || shape[2] !== h || shape[3] !== w) {
      throw new RangeError(
        `Expected shape [${count}, ${shape[1]}, ${h}, ${w}] for extraChannels but received [${shape.join(', ')}]`,
      )
    }
  }
}
