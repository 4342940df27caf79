/** Options of models that are conditioned on more than one prompt: Stable Diffusion XL and its relatives. */
import { checkInteger, checkNumber, checkObject, copyTensor } from '../check.js'
import type { ImageSize } from '../image/index.js'
import type { ExtraInput, Tensor } from '../types.js'
import { maxSide } from './images.js'

/** Options that only some models have a use for. */
export interface ConditionOptions {
  /** SDXL: the prompt of the second text encoder, as `prompt`. Default: `prompt`. */
  prompt2?: string | string[]
  /** SDXL: the negative prompt of the second text encoder, as `negativePrompt`. Default: `negativePrompt`. */
  negativePrompt2?: string | string[]
  /** SDXL: the size that the picture had before it was scaled; small ones look blurred. Default: its size. */
  originalSize?: ImageSize
  /** SDXL: how much the picture was cropped at its top and left, in pixels. Default: not at all. */
  cropTopLeft?: { top: number; left: number }
  /** SDXL: the size that the picture is to have. Default: its size. */
  targetSize?: ImageSize
  /** SDXL's refiner: how beautiful the picture is to be, 0…10. Default: 6. */
  aestheticScore?: number
  /** The same for the negative prompt. Default: 2.5. */
  negativeAestheticScore?: number
  /**
   * The share of the noise schedule, 0…1, that belongs to the model; the rest belongs to the refiner that load() was given
   * (diffusers' denoising_end and denoising_start). 1: no refiner in this call. Default: 0.8.
   */
  refinerStart?: number
  /** SDXL: the pooled output that belongs to `promptEmbeds`, [n, width]. */
  pooledPromptEmbeds?: Tensor
  /** The pooled output that belongs to `negativePromptEmbeds`, of the same shape. */
  negativePooledPromptEmbeds?: Tensor
  /**
   * InstructPix2Pix: how closely to follow the image, 0…100, beside a guidanceScale above 1 (Brooks et al. 2023).
   * Default: 1.5.
   */
  imageGuidanceScale?: number
  /**
   * ×4 upscaler: how much noise the image gets, a timestep of 0…350 (or what the model's files say). More noise leaves more
   * to the prompt. Default: 20. unCLIP: how much noise the image's embedding gets, 0…999; more noise leaves more freedom.
   * Default: 0.
   */
  noiseLevel?: number
}

export const conditionKeys = [
  'prompt2', 'negativePrompt2', 'originalSize', 'cropTopLeft', 'targetSize', 'aestheticScore', 'negativeAestheticScore',
  'refinerStart', 'pooledPromptEmbeds', 'negativePooledPromptEmbeds', 'imageGuidanceScale', 'noiseLevel',
] as const satisfies (keyof ConditionOptions)[] // prettier-ignore

/** ConditionOptions without the prompts, with defaults that do not depend on the image. */
export interface Conditions {
  originalSize?: ImageSize
  cropTopLeft: { top: number; left: number }
  targetSize?: ImageSize
  aestheticScore: number
  negativeAestheticScore: number
  refinerStart: number
  pooledPromptEmbeds?: Tensor
  negativePooledPromptEmbeds?: Tensor
  imageGuidanceScale: number
  noiseLevel: number
}

/** The largest noiseLevel of the published model. */
const MAX_NOISE_LEVEL = 350

/** @param rows number of prompts; the other parameter is a ModelFacts */
export function checkConditions(
  o: Record<string, unknown>,
  rows: number,
  {
    pooledWidth,
    maxNoiseLevel = MAX_NOISE_LEVEL,
    refines,
    extraInput,
  }: { pooledWidth?: number; maxNoiseLevel?: number; refines?: boolean; extraInput?: ExtraInput },
): Conditions {
  const size = (key: 'originalSize' | 'targetSize'): ImageSize | undefined => {
    if (o[key] === undefined) return undefined
    const { width, height } = checkObject(o[key], key, ['width', 'height'])
    return {
      width: checkInteger(width, `${key}.width`, 1, maxSide),
      height: checkInteger(height, `${key}.height`, 1, maxSide),
    }
  }
  const number = (key: keyof ConditionOptions, fallback: number, highest: number) =>
    o[key] === undefined ? fallback : checkNumber(o[key], key, 0, highest)
  const refinerStart = number('refinerStart', 0.8, 1)
  if (o.refinerStart !== undefined && !refines)
    throw new TypeError('Expected a pipeline loaded with refiner, as refinerStart was given')
  if (o.promptEmbeds !== undefined && refines && refinerStart < 1)
    throw new TypeError('Expected prompt in place of promptEmbeds, as the pipeline has a refiner')
  const crop = checkObject(o.cropTopLeft ?? {}, 'cropTopLeft', ['top', 'left'])
  const offset = (key: 'top' | 'left') =>
    crop[key] === undefined ? 0 : checkInteger(crop[key], `cropTopLeft.${key}`, 0, maxSide)
  return {
    originalSize: size('originalSize'),
    cropTopLeft: { top: offset('top'), left: offset('left') },
    targetSize: size('targetSize'),
    aestheticScore: number('aestheticScore', 6, 10),
    negativeAestheticScore: number('negativeAestheticScore', 2.5, 10),
    refinerStart,
    ...checkPooled(o, rows, pooledWidth),
    imageGuidanceScale: number('imageGuidanceScale', 1.5, 100),
    noiseLevel:
      o.noiseLevel === undefined
        ? Math.min(extraInput === 'embedded-image' ? 0 : 20, maxNoiseLevel)
        : checkInteger(o.noiseLevel, 'noiseLevel', 0, maxNoiseLevel),
  }
}

/** A pooled output beside each of the embeddings, where the model takes it, and nowhere else. */
function checkPooled(o: Record<string, unknown>, rows: number, pooledWidth: number | undefined) {
  const result: Pick<Conditions, 'pooledPromptEmbeds' | 'negativePooledPromptEmbeds'> = {}
  for (const [key, beside] of [
    ['pooledPromptEmbeds', 'promptEmbeds'],
    ['negativePooledPromptEmbeds', 'negativePromptEmbeds'],
  ] as const) {
    if (o[key] !== undefined && pooledWidth === undefined)
      throw new TypeError(`Expected no ${key}, as this model takes no pooled output`)
    if (o[key] !== undefined && o[beside] === undefined)
      throw new TypeError(`Expected ${beside}, as ${key} was given`)
    if (o[key] === undefined && o[beside] !== undefined && pooledWidth !== undefined)
      throw new TypeError(`Expected ${key}, as ${beside} was given`)
    if (o[key] === undefined) continue
    const tensor = copyTensor(o[key], key, [-1, pooledWidth!])
    const n = tensor.shape[0]
    if (n !== rows && !(n === 1 && key === 'negativePooledPromptEmbeds'))
      throw new RangeError(
        `Expected shape [${rows}, ${pooledWidth}] for ${key} but received [${tensor.shape}]`,
      )
    result[key] = tensor
  }
  return result
}
