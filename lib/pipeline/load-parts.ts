import type { AdapterReport, Embedding, IpAdapterDescription } from '../adapters/index.js'
import { throwIfAborted } from '../abort.js'
import type { Placement } from '../device/index.js'
import { DiffusionError } from '../errors.js'
import { localPath } from '../hub/index.js'
import { requireMemoryForWeights } from '../memory.js'
import { defaultLowResolution, isUpscaler } from '../models/families/upscaler.js'
import { imageEmbeddingWidth } from '../models/families/unclip.js'
import type { ModelDescription } from '../models/index.js'
import type { ImageEncoderDescription } from '../models/image-encoder.js'
import type { ModelSource } from '../native.js'
import type { LoadRequest } from '../options/index.js'
import { defaultSchedulerName } from '../schedulers/index.js'
import { AutoencoderKL } from './autoencoder.js'
import { setArithmetic } from './component.js'
import { loadControl, type NamedControl } from './control-files.js'
import type { ControlModel } from './controls.js'
import { findPrediction } from './find-prediction.js'
import { ImageEncoder } from './image-encoder.js'
import { IpAdapter } from './ip-adapter.js'
import { loadTextEncoders, loadTokenizers } from './load-text.js'
import { chooseResidency, leastWeightBytes } from './memory-plan.js'
import type { Parts } from './parts.js'
import { loadRefiner, modelName, refinerComponents, type RefinerDescription } from './refiner.js'
import { timeIdCountOf } from './supported-conditions.js'
import { AutoencoderTiny, describeTinyVae } from './tiny-autoencoder.js'
import { loadUnclip } from './unclip.js'
import { Unet } from './unet.js'

/** A model with a UNet, and with an autoencoder, which may be a tiny one. */
type DescriptionWithUnet = ModelDescription & Required<Pick<ModelDescription, 'unet'>>

/** What is loaded beside the model. */
interface StoredExtras {
  refiner: RefinerDescription | undefined
  nets: readonly NamedControl[]
  ipAdapters: readonly IpAdapterDescription[]
}

/** Loads the components of a model. If one fails, those that were loaded before it are freed. */
export async function loadParts(
  description: DescriptionWithUnet,
  extras: StoredExtras & {
    adapters: readonly AdapterReport[]
    embeddings: readonly Embedding[]
    /** Whether no weights are read: the components only tell what memory and work they take. */
    plan: boolean
  },
  options: LoadRequest,
  placement: Placement,
): Promise<Parts> {
  const { unet, vae, textEncoders, unclip } = description
  const { adapters, embeddings, refiner, nets, ipAdapters, plan } = extras
  const { tinyVae, lowMemory, loraFolder, signal } = options
  const sources = componentsOf(description, extras).map(({ source }) => source)
  for (const source of sources) setArithmetic(source, options)
  // A GPU has all weights or none.
  const low = placement.cuda && lowMemory === undefined ? false : lowMemory
  const images = [...imageComponents(ipAdapters), ...(unclip?.imageEncoder ? [unclip.imageEncoder] : [])]
  const { savesMemory } = chooseResidency({ unet, vae, textEncoders, images }, low)
  if (refiner) chooseResidency(refinerComponents(refiner), low)
  for (const { source } of nets) source.residency = unet.source.residency
  if (plan) for (const source of sources) source.plan = true
  else if (!placement.cuda) requireMemoryForWeights(leastWeightBytes(sources), description.path)
  const loaded: { dispose(): Promise<void> }[] = []
  const keep = <T extends { dispose(): Promise<void> }>(part: T): T => {
    loaded.push(part)
    return part
  }
  try {
    const tokenizers = await loadTokenizers(description.path, textEncoders, embeddings)
    // One after the other, because loading takes more memory than the weights, and is no faster in parallel. The tiny
    // autoencoder is the first, because it is the quickest to fail.
    let tiny: AutoencoderTiny | undefined
    let ofTiny = description.tinyVae
    if (tinyVae !== undefined) {
      ofTiny = await describeTinyVae(tinyVae, await localPath(tinyVae, signal))
      setArithmetic(ofTiny.source, options)
    }
    if (ofTiny) tiny = keep(await AutoencoderTiny.from(ofTiny, placement, { signal }))
    const controlNets: ControlModel[] = []
    for (const net of nets) controlNets.push(keep(await loadControl(net, placement, signal)))
    const loadedTexts = await loadTextEncoders(textEncoders, tokenizers, embeddings, placement, signal, keep)
    const loadedUnet = keep(await Unet.load(unet, placement, { signal }))
    if (description.assumedPrediction && !plan) await findPrediction(description, loadedUnet, signal)
    const parts: Parts = {
      controlNets,
      ipAdapters: await loadIpAdapters(ipAdapters, placement, signal, keep),
      controlNames: nets.map(({ path }) => modelName(path)),
      tinyVae: tiny,
      name: modelName(description.path),
      tokenizers,
      textEncoders: loadedTexts,
      unet: loadedUnet,
      vae: vae ? keep(await AutoencoderKL.from(vae, placement, { signal })) : tiny!,
      schedule: description.schedule,
      defaultScheduler: defaultSchedulerName(description.schedule),
      imageSize: description.imageSize,
      ...(isUpscaler(unet.config) && {
        lowResolution: description.lowResolution ?? defaultLowResolution(),
      }),
      timeIdCount: timeIdCountOf(description),
      zeroesEmptyNegative: description.zeroesEmptyNegative,
      savesMemory,
      trainedWords: description.trainedWords && new Set(description.trainedWords),
      adapters,
      warnings: [...(description.warnings ?? []), ...(description.unused ?? [])],
      loraFolder,
    }
    if (imageEmbeddingWidth(unet.config) !== undefined) {
      parts.unclip = await loadUnclip(unclip, placement, { signal })
      if (parts.unclip.imageEncoder) keep(parts.unclip.imageEncoder)
    }
    if (refiner) parts.refiner = await loadRefiner(refiner, parts, placement, signal, keep)
    checkTinyVae(parts, tinyVae)
    throwIfAborted(signal)
    return parts
  } catch (error) {
    await Promise.all(loaded.map((part) => part.dispose()))
    throw error
  }
}

/** IP-Adapters, and their image encoders, which they may share. */
async function loadIpAdapters(
  descriptions: readonly IpAdapterDescription[],
  placement: Placement,
  signal: AbortSignal | undefined,
  keep: <T extends { dispose(): Promise<void> }>(part: T) => T,
): Promise<IpAdapter[]> {
  const encoders = new Map<ImageEncoderDescription, ImageEncoder>()
  const loaded: IpAdapter[] = []
  for (const description of descriptions) {
    const { encoder } = description
    if (encoder && !encoders.has(encoder))
      encoders.set(encoder, keep(await ImageEncoder.from(encoder, placement, { signal })))
    const imageEncoder = encoder && encoders.get(encoder)
    loaded.push(keep(await IpAdapter.from(description, imageEncoder, placement, { signal })))
  }
  return loaded
}

/** The stored components of IP-Adapters. */
function imageComponents(ipAdapters: readonly IpAdapterDescription[]): { source: ModelSource }[] {
  const encoders = ipAdapters.flatMap(({ encoder }) => encoder ?? [])
  return [...ipAdapters, ...new Set(encoders)]
}

/** All stored components that are loaded, each once. */
export function componentsOf(
  { unet, vae, tinyVae, textEncoders, unclip }: DescriptionWithUnet,
  { refiner, nets, ipAdapters }: StoredExtras,
): { source: ModelSource }[] {
  const encoder = unclip?.imageEncoder
  const own = [unet, (vae ?? tinyVae)!, ...textEncoders, ...(encoder ? [encoder] : [])]
  const more = refiner && refinerComponents(refiner)
  const refining = more ? [more.unet, ...more.textEncoders] : []
  return [...own, ...refining, ...imageComponents(ipAdapters), ...nets]
}

/** Checks that the tiny autoencoder has the same latents as the model. */
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
