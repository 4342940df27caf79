import type { ModelSource, Residency, TensorType } from '../native.js'
import { noisesImage, type GenerateRequest, type TilingOption } from '../options/index.js'
import type { AutoencoderKL } from './autoencoder.js'
import { controlBytes } from './controls.js'
import { MOST_OF_MASK, MOST_TENSORS } from './device-tensors.js'
import { imagePromptLengths, imagePromptMemory } from './image-prompts.js'
import { loadedComponents, type LoadedParts, type Parts } from './parts.js'
import { rowsPerImage } from './prompt.js'
import type { AutoencoderTiny } from './tiny-autoencoder.js'
import type { Unet } from './unet.js'

const FLOATS: readonly TensorType[] = ['f32', 'f16', 'bf16', 'f64', 'f8_e4m3', 'f8_e5m2']

/**
 * Chooses which weights of each component stay in memory, by `lowMemory` of LoadOptions. By default, a quantized model
 * reads its text encoder and autoencoder for each image: they run once where the UNet runs tens of times, and reading a
 * matrix costs as much as multiplying a hundred rows with it. That is little time for much of a small model's memory.
 *
 * @returns whether memory counts for more than time
 */
export function chooseResidency(
  parts: {
    textEncoders: readonly { source: ModelSource }[]
    /** Image encoders and IP-Adapters. */
    images?: readonly { source: ModelSource }[]
    unet: { source: ModelSource }
    vae?: { source: ModelSource }
  },
  lowMemory: boolean | undefined,
): { savesMemory: boolean } {
  const { textEncoders, images = [], unet, vae } = parts
  const quantized = unet.source.tensors.some(({ type }) => !FLOATS.includes(type))
  const choose = (automatic: Residency): Residency =>
    lowMemory === undefined ? automatic : lowMemory ? 'none' : 'all'
  unet.source.residency = choose('per-step')
  for (const part of [...(vae ? [vae] : []), ...textEncoders, ...images])
    part.source.residency = choose(quantized ? 'none' : 'per-step')
  return { savesMemory: lowMemory ?? quantized }
}

/**
 * Matrices that 'per-step' does not keep: timestep shifts, keys and values of the prompt, the image encoder, and what
 * embeds the picture of a ControlNet or is a T2I-Adapter.
 */
const ONCE =
  /\.time_emb_proj\.|\.norm[12]\.linear\.|\.attn2\.to_[kv]\.|^(encoder\.(?!layers\.)|quant_conv\.|controlnet_cond_embedding\.|\d+\.\w+\.conditioning1\.|transformer_layes\.|spatial_ch_projs\.|body\.\d+\.)/

/**
 * The least memory in bytes that weights take once they are loaded: an element is kept in no more bytes than it is
 * stored in, and those that are read whenever a layer needs them are not kept.
 */
export function leastWeightBytes(sources: readonly ModelSource[]): number {
  let sum = 0
  for (const { tensors, residency, precision } of sources) {
    const width = precision === 'int8' ? 1 : precision === 'bf16' ? 2 : 4
    for (const { name, shape, bytes } of tensors) {
      // Vectors are always kept.
      const kept = shape.length < 2 || residency === 'all' || (residency === 'per-step' && !ONCE.test(name))
      const elements = shape.reduce((product, length) => product * length, 1)
      if (kept) sum += Math.min(bytes, width * elements)
    }
  }
  return sum
}

/** Sizes that are remembered for each component. */
const MOST_REMEMBERED = 16

const sizes = new WeakMap<object, Map<string, number>>()

/**
 * A size that depends on a component and the question alone. Walking through a UNet for it takes a millisecond or more, and
 * every run asks.
 */
function remembered(component: object, question: readonly unknown[], measure: () => number): number {
  const known = sizes.get(component) ?? new Map<string, number>()
  sizes.set(component, known)
  const key = JSON.stringify(question)
  const size = known.get(key) ?? measure()
  known.delete(key)
  known.set(key, size)
  if (known.size > MOST_REMEMBERED) known.delete(known.keys().next().value!)
  return size
}

/** Peak memory of a run in bytes. */
export interface MemoryNeeded {
  /** Weights, which are in memory already. */
  weights: number
  /** Working memory, which the run frees at its end. */
  working: number
  total: number
}

/** The components whose memory counts. */
type SizedParts = LoadedParts & Pick<Parts, 'savesMemory'>

type Size = Pick<
  GenerateRequest,
  | 'count'
  | 'width'
  | 'height'
  | 'guidanceScale'
  | 'embedsGuidance'
  | 'extraInput'
  | 'vaeTiling'
  | 'image'
  | 'mask'
  | 'outputType'
  | 'decoder'
  | 'deepCache'
  | 'tokenMerging'
  | 'controls'
  | 'imagePrompts'
>

/**
 * Peak memory of a run, computed without allocating it. The UNet and the autoencoder run in turn, and each frees
 * its working memory before the other one starts.
 */
export function workingMemory(parts: SizedParts, request: Size, contextLength: number): MemoryNeeded {
  const { unet, vae, tinyVae, unclip } = parts
  const { width, height, count } = request
  const [h, w] = [height / vae.factor, width / vae.factor]
  const batch = rowsPerImage(request) * count
  // On a GPU its own memory counts: pixels, contexts and the host's copies of latents are in the host's.
  const onHost = unet.device === 'cpu' ? 1 : 0
  const pixels = onHost * 3 * width * height
  const vaeTiling = tilingOf(parts, request, contextLength)
  const tiny = tinyVae ? decodeBytes(tinyVae, h, w, vaeTiling) + 4 * pixels : 0
  // Previews are decoded while the UNet keeps its working memory.
  const control = controlBytes(parts.controlNets, request, batch, contextLength)
  const images = imagePromptMemory(parts.ipAdapters, request, { h, w })
  const resident = residentBytes(parts, request)
  const denoise = denoiseBytes(parts, request, contextLength) + tiny + control + images.kept + resident
  // Inpainting encodes an image also where none is given: see initial-latents.ts.
  const encodes =
    (request.image !== undefined && !noisesImage(request.extraInput)) || request.extraInput === 'masked-image'
  // The ×2 latent upscaler's image has half the size of the result.
  const [times, side] = request.extraInput === 'small-latents' ? [0.25, 0.5] : [1, 1]
  const encode = encodes
    ? remembered(vae, ['encode', side * h, side * w, vaeTiling], () =>
        vae.encodeBytes(side * h, side * w, vaeTiling),
      ) +
      4 * times * pixels
    : 0
  const embed = unclip?.imageEncoder && request.image !== undefined ? unclip.imageEncoder.workingBytes(1) : 0
  // One image at a time in floats, and all images in bytes.
  const decode =
    request.outputType === 'latents'
      ? 0
      : (request.decoder === 'tiny' ? tiny : decodeBytes(vae, h, w, vaeTiling) + 4 * pixels) + count * pixels
  // The scheduler and the loop hold several copies of the latents.
  const latents = onHost * 8 * batch * unet.config.inChannels * h * w * 4
  const context = onHost * 2 * batch * contextLength * unet.config.contextWidth * 4
  const all = [...loadedComponents(parts)]
  const threads = Math.max(...all.map((part) => part.threadBytes))
  const working =
    Math.max(denoise, encode, embed, images.start + images.kept, decode) + latents + context + threads
  const weights = all.reduce((sum, part) => sum + part.weightBytes, 0)
  return { weights, working, total: weights + working }
}

/**
 * The tiling of the autoencoder in a run that begins now: on a GPU, with no more memory than is free. One limit holds for
 * all images of a run, so that they are rounded alike.
 */
export function tilingNow(parts: SizedParts, request: Size, contextLength: number): TilingOption | undefined {
  const tiling = tilingOf(parts, request, contextLength)
  const free = parts.vae.freeDeviceMemory()
  if (tiling !== undefined || free === undefined) return tiling
  return { bytes: parts.vae.bytesAllowed(undefined, request.width * request.height, free)! }
}

/** Bytes of the latents on a GPU, see device-tensors.ts; they are freed before the image is decoded. */
function residentBytes({ unet, vae }: SizedParts, request: Size): number {
  const { inChannels, outChannels, kBlocks } = unet.config
  if (unet.device === 'cpu' || kBlocks) return 0
  const tensors = MOST_TENSORS + (request.mask === undefined ? 0 : MOST_OF_MASK)
  const channels = tensors * outChannels + rowsPerImage(request) * (inChannels - outChannels)
  return (4 * channels * request.count * request.width * request.height) / vae.factor ** 2
}

function denoiseBytes(
  { unet, refiner, vae, ipAdapters }: SizedParts,
  request: Size,
  contextLength: number,
): number {
  const { width, height, count, tokenMerging, deepCache } = request
  const batch = rowsPerImage(request) * count
  const [h, w] = [height / vae.factor, width / vae.factor]
  const options = { tokenMerging, depth: deepCache?.depth }
  const imageLengths = imagePromptLengths(ipAdapters, request)
  const bytes = (denoiser: Unet, options: NonNullable<Parameters<Unet['workingBytes']>[4]>) =>
    remembered(denoiser, [batch, h, w, contextLength, options], () =>
      denoiser.workingBytes(batch, h, w, contextLength, options),
    )
  const own = bytes(unet, { ...options, imageLengths })
  if (!refiner) return own
  const depth = deepCache && Math.min(deepCache.depth, refiner.unet.maxDepth)
  return Math.max(own, bytes(refiner.unet, { ...options, depth }))
}

function decodeBytes(
  autoencoder: AutoencoderKL | AutoencoderTiny,
  h: number,
  w: number,
  tiling: TilingOption | undefined,
): number {
  return remembered(autoencoder, ['decode', h, w, tiling], () => autoencoder.decodeBytes(h, w, tiling))
}

/**
 * The tiling of the autoencoder in a run. By default, if memory counts for more than time, the autoencoder works in
 * bands that take no more memory than denoising a single image does. Bands change the rounding, so they must not depend
 * on the number of images: an image of a batch is that of its seed alone.
 */
export function tilingOf(parts: SizedParts, request: Size, contextLength: number): TilingOption | undefined {
  if (request.vaeTiling !== undefined || !parts.savesMemory) return request.vaeTiling
  // On a GPU the images are in the host's memory.
  const images = parts.unet.device === 'cpu' ? 5 * 3 * request.width * request.height : 0
  return { bytes: Math.max(denoiseBytes(parts, { ...request, count: 1 }, contextLength) - images, 0) }
}
