/** The options of load(). */
import {
  checkBoolean,
  checkInteger,
  checkNumber,
  checkObject,
  checkOneOf,
  checkRecord,
  checkSignal,
  checkString,
  expectation,
  isArray,
} from '../check.js'
import { native, type Kernels, type Precision } from '../native.js'
import { shorten } from '../quote.js'
import { spacings, type Spacing } from '../schedulers/index.js'
import type { DeviceOption, PredictionType } from '../types.js'

/** A LoRA file; a path stands for a scale of 1. */
export type LoraOption =
  | string
  | {
      path: string
      /** Default: 1. Negative scales reverse the effect. */
      scale?: number
      /** For the text encoders. Default: `scale`. */
      textEncoderScale?: number
      /** Factors of the scale for parts of the UNet, by the beginnings of their names: `{ 'down_blocks.1': 0.5 }`. */
      blockScales?: Record<string, number>
    }

/** Options of DiffusionPipeline.load(). */
export interface LoadOptions {
  /**
   * Where the model computes: on the CPU, or on an NVIDIA GPU by its number ('cuda' is 'cuda:0'). 'auto' takes a GPU if
   * there is one that the model fits on. Default: 'auto'.
   */
  device?: DeviceOption
  /** Number of threads of the process, 1…256. Default: one for each physical core. */
  threads?: number
  /**
   * The type in which the engine multiplies. 'auto' chooses by the stored weights and the CPU; 'f32' comes closest to
   * diffusers in fp32. GPUs multiply in half precision: any other value than 'auto' keeps the model on the CPU, and does
   * not go with `device: 'cuda'`. Default: 'auto'.
   */
  precision?: Precision
  /**
   * The instruction sets that the CPU computes with. 'auto' takes the fastest of this CPU. 'portable' takes those that all
   * CPUs of its architecture have (AVX2 on x86-64, NEON on 64-bit Arm), so that a seed gives the same bytes on all of them,
   * at half of the speed or less. It keeps the model on the CPU, and does not go with `device: 'cuda'`. Default: 'auto'.
   */
  kernels?: Kernels
  /**
   * Which of several weights of a diffusers folder to read, such as 'fp16' for `diffusion_pytorch_model.fp16.safetensors`.
   * Default: those without a variant; of a model on the Hub, 'fp16'.
   */
  variant?: string
  /** What the UNet predicts, for files that do not tell it or tell it wrongly. Default: what the files tell. */
  predictionType?: PredictionType
  /** Whether the last training timestep is pure noise (Lin et al. 2023), as predictionType. */
  rescaleBetasZeroSnr?: boolean
  /** Spacing of the timesteps over the training schedule, as predictionType. */
  timestepSpacing?: Spacing
  /** Folder or file whose UNet takes the place of the model's. */
  unet?: string
  /** Folder or file whose autoencoder takes the place of the model's, or is used if the model's file has none. */
  vae?: string
  /** Folders or files whose text encoders take the place of the model's, in the order of the UNet's context. */
  textEncoders?: string[]
  /** unCLIP: folder or file of an image encoder that takes the place of the model's; see ImageEncoder.load(). */
  imageEncoder?: string
  /**
   * Folder or file of a model that takes the last steps over, such as SDXL's refiner; see `refinerStart` of generate(). Its
   * autoencoder is not used, and LoRA files and embeddings do not change it. Both models stay in memory.
   */
  refiner?: string
  /** Folder or file of a tiny autoencoder (TAESD), for previews and for images with `decoder: 'tiny'`. */
  tinyVae?: string
  /**
   * LoRA files (also LoCon, LoHa, LoKr, DoRA, (IA)³ and full differences) that become part of the weights while these
   * are read. A path stands for a scale of 1. See `pipe.adapters` for what each of them changed.
   */
  loras?: LoraOption[]
  /**
   * Folder of the LoRA files that prompts name: `<lora:style:0.8>` stands for style.safetensors, anywhere in the folder.
   * Without it, this is read as plain words.
   */
  loraFolder?: string
  /**
   * Textual inversion files, whose names become words of the prompts. A path stands for the file's name and, if the file
   * has one, the token in it; `token` is the only name instead.
   */
  embeddings?: (string | { path: string; token?: string })[]
  /**
   * ControlNets, control-LoRAs, ControlLLLites and T2I-Adapters (files or folders) for `controls` of generate(), which names
   * them by their place in this list. They take memory beside the model.
   */
  controlNets?: string[]
  /**
   * IP-Adapters for `imagePrompts` of generate(), which names them by their place in this list: files, or files with the
   * image encoder (a file or folder) that they were trained with. Default encoder: the one that fits in a folder
   * `image_encoder` beside the file or in the model's folder. They take memory beside the model. `shortcut` tells
   * version 2 of FaceID Plus from version 1, whose files look alike; default: whether the file's name says `plusv2`.
   */
  ipAdapters?: (string | { path: string; imageEncoder?: string; shortcut?: boolean })[]
  /**
   * true: no weights stay in memory; they are read from the model's files whenever a layer needs them, in every step.
   * false: all weights stay in memory. Default: weights that are used in every step stay; those that are used once per
   * image are read for each image (the text encoder and autoencoder of a quantized model, otherwise the image encoder
   * alone). If this is true, or by default with a quantized model, the autoencoder takes no more working memory than
   * the UNet. With int8 arithmetic (quantized models), true also changes images by rounding, 42 to 51 dB: convolutions do
   * not use Winograd's method then.
   */
  lowMemory?: boolean
  /** Aborts loading within 100 ms. */
  signal?: AbortSignal
}

/** A LoraOption, checked. */
export interface CheckedLora {
  path: string
  scale: number
  textEncoderScale?: number
  blockScales?: Record<string, number>
}

/** LoadOptions, checked. */
export interface LoadRequest extends Omit<
  LoadOptions,
  'loras' | 'embeddings' | 'controlNets' | 'ipAdapters'
> {
  controlNets: string[]
  ipAdapters: { path: string; imageEncoder?: string; shortcut?: boolean }[]
  loras: CheckedLora[]
  embeddings: { path: string; token?: string }[]
}

/** The values of `precision`. */
export const precisions: readonly Precision[] = ['auto', 'f32', 'bf16', 'int8']

/** Checks the option if it is given. */
export function checkPrecision(value: unknown): Precision | undefined {
  return value === undefined ? undefined : checkOneOf(value, 'precision', precisions)
}

/** Checks the option if it is given. */
export function checkKernels(value: unknown): Kernels | undefined {
  return value === undefined ? undefined : checkOneOf(value, 'kernels', ['auto', 'portable'] as const)
}

/** Checks the option if it is given. */
export function checkDevice(value: unknown): DeviceOption | undefined {
  if (value === undefined) return undefined
  const text = checkString(value, 'device')
  if (/^(auto|cpu|cuda(:\d{1,3})?)$/.test(text)) return text as DeviceOption
  throw new RangeError(expectation("'auto', 'cpu', 'cuda' or 'cuda:' and a number", 'device', value))
}

const predictionTypes: readonly PredictionType[] = ['epsilon', 'v_prediction', 'sample']

export const loadKeys = [
  'device', 'threads', 'precision', 'kernels', 'variant', 'predictionType', 'rescaleBetasZeroSnr',
  'timestepSpacing', 'unet', 'vae', 'textEncoders', 'imageEncoder', 'refiner', 'tinyVae', 'loras', 'loraFolder',
  'embeddings', 'controlNets', 'ipAdapters', 'lowMemory', 'signal',
] as const satisfies (keyof LoadOptions)[] // prettier-ignore

function checkPaths(value: unknown, path: string): string[] {
  if (!isArray(value)) throw new TypeError(expectation('array of paths', path, value))
  return Array.from(value, (one, i) => checkString(one, `${path}[${i}]`))
}

/** Those that take the place of what the model's files tell. */
function checkScheduleOptions(
  given: Record<string, unknown>,
): Pick<LoadOptions, 'predictionType' | 'rescaleBetasZeroSnr' | 'timestepSpacing'> {
  const { predictionType, rescaleBetasZeroSnr, timestepSpacing } = given
  return {
    ...(predictionType !== undefined && {
      predictionType: checkOneOf(predictionType, 'predictionType', predictionTypes),
    }),
    ...(rescaleBetasZeroSnr !== undefined && {
      rescaleBetasZeroSnr: checkBoolean(rescaleBetasZeroSnr, 'rescaleBetasZeroSnr'),
    }),
    ...(timestepSpacing !== undefined && {
      timestepSpacing: checkOneOf(timestepSpacing, 'timestepSpacing', spacings),
    }),
  }
}

export function checkLoadOptions(options: unknown): LoadRequest {
  const given = checkObject(options, 'options', loadKeys)
  const {
    device,
    threads,
    precision,
    kernels,
    variant,
    unet,
    vae,
    textEncoders,
    imageEncoder,
    refiner,
    tinyVae,
    loras,
    loraFolder,
    embeddings,
    controlNets,
    ipAdapters,
    lowMemory,
    signal,
  } = given
  return {
    device: checkDevice(device),
    threads: threads === undefined ? undefined : checkInteger(threads, 'threads', 1, native().limits.threads),
    precision: checkPrecision(precision),
    kernels: checkKernels(kernels),
    variant: variant === undefined ? undefined : checkString(variant, 'variant'),
    ...checkScheduleOptions(given),
    unet: unet === undefined ? undefined : checkString(unet, 'unet'),
    vae: vae === undefined ? undefined : checkString(vae, 'vae'),
    textEncoders: textEncoders === undefined ? undefined : checkPaths(textEncoders, 'textEncoders'),
    imageEncoder: imageEncoder === undefined ? undefined : checkString(imageEncoder, 'imageEncoder'),
    refiner: refiner === undefined ? undefined : checkString(refiner, 'refiner'),
    tinyVae: tinyVae === undefined ? undefined : checkString(tinyVae, 'tinyVae'),
    loras: loras === undefined ? [] : checkLoras(loras, 'loras'),
    loraFolder: loraFolder === undefined ? undefined : checkString(loraFolder, 'loraFolder'),
    embeddings: embeddings === undefined ? [] : checkEmbeddings(embeddings, 'embeddings'),
    controlNets: controlNets === undefined ? [] : checkPaths(controlNets, 'controlNets'),
    ipAdapters: ipAdapters === undefined ? [] : checkIpAdapters(ipAdapters, 'ipAdapters'),
    lowMemory: lowMemory === undefined ? undefined : checkBoolean(lowMemory, 'lowMemory'),
    signal: checkSignal(signal),
  }
}

/** Scales beyond this leave nothing of a picture. */
const MAX_LORA_SCALE = 100

export function checkLoras(value: unknown, path: string): CheckedLora[] {
  if (!isArray(value)) throw new TypeError(expectation('array of paths', path, value))
  // Unlike map(), Array.from() does not skip the holes of a sparse array.
  return Array.from(value, (lora: unknown, i) => {
    const name = `${path}[${i}]`
    if (typeof lora === 'string') return { path: checkString(lora, name), scale: 1 }
    const given = checkObject(lora, name, ['path', 'scale', 'textEncoderScale', 'blockScales'])
    const scale = (key: 'scale' | 'textEncoderScale') =>
      given[key] === undefined ? undefined : checkScale(given[key], `${name}.${key}`)
    const file = checkString(given.path, `${name}.path`)
    const textEncoderScale = scale('textEncoderScale')
    return {
      path: file,
      scale: scale('scale') ?? 1,
      ...(textEncoderScale !== undefined && { textEncoderScale }),
      ...(given.blockScales !== undefined && {
        blockScales: checkBlocks(given.blockScales, `${name}.blockScales`),
      }),
    }
  })
}

function checkScale(value: unknown, path: string): number {
  return checkNumber(value, path, -MAX_LORA_SCALE, MAX_LORA_SCALE)
}

/** Parts of a UNet that can have a scale of their own. */
const MAX_BLOCKS = 1000

function checkBlocks(value: unknown, path: string): Record<string, number> {
  const entries = Object.entries(checkRecord(value, path))
  if (entries.length > MAX_BLOCKS)
    throw new RangeError(`Expected at most ${MAX_BLOCKS} blocks for ${path} but received ${entries.length}`)
  return Object.fromEntries(
    entries.map(([block, scale]) => [block, checkScale(scale, `${path}.${shorten(block)}`)]),
  )
}

function checkIpAdapters(value: unknown, path: string): LoadRequest['ipAdapters'] {
  if (!isArray(value)) throw new TypeError(expectation('array of paths', path, value))
  return Array.from(value, (adapter: unknown, i) => {
    const name = `${path}[${i}]`
    if (typeof adapter === 'string') return { path: checkString(adapter, name) }
    const {
      path: file,
      imageEncoder,
      shortcut,
    } = checkObject(adapter, name, ['path', 'imageEncoder', 'shortcut'])
    return {
      path: checkString(file, `${name}.path`),
      ...(imageEncoder !== undefined && { imageEncoder: checkString(imageEncoder, `${name}.imageEncoder`) }),
      ...(shortcut !== undefined && { shortcut: checkBoolean(shortcut, `${name}.shortcut`) }),
    }
  })
}

/** Characters of an embedding's name. */
const MAX_TOKEN = 256

function checkEmbeddings(value: unknown, path: string): LoadRequest['embeddings'] {
  if (!isArray(value)) throw new TypeError(expectation('array of paths', path, value))
  return Array.from(value, (embedding: unknown, i) => {
    const name = `${path}[${i}]`
    if (typeof embedding === 'string') return { path: checkString(embedding, name) }
    const given = checkObject(embedding, name, ['path', 'token'])
    const file = checkString(given.path, `${name}.path`)
    if (given.token === undefined) return { path: file }
    const token = checkString(given.token, `${name}.token`)
    if (token.trim() !== token || token === '' || token.length > MAX_TOKEN)
      throw new RangeError(
        expectation(`1 to ${MAX_TOKEN} characters without blanks at the ends`, `${name}.token`, token),
      )
    return { path: file, token }
  })
}
