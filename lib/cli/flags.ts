/** What the options of each command say. */
import type { Kernels, Precision } from '../native.js'
import type { DeviceOption, PredictionType } from '../types.js'
import type { ControlFlag } from './arguments.js'

export interface GenerateFlags {
  model?: string
  variant?: string
  output?: string
  count?: number
  batch?: number
  negative?: string
  /** In place of the argument, as other programs have it. */
  prompt?: string
  size?: { width: number; height: number }
  width?: number
  height?: number
  steps?: number
  scheduler?: string
  eta?: number
  seed?: number | bigint
  rng?: 'torch' | 'philox'
  cfg?: number
  imageCfg?: number
  prompt2?: string
  negative2?: string
  originalSize?: { width: number; height: number }
  targetSize?: { width: number; height: number }
  crop?: { top: number; left: number }
  preset?: string
  prediction?: PredictionType
  spacing?: 'leading' | 'linspace' | 'trailing'
  zeroSnr?: boolean
  unet?: string
  vae?: string
  textEncoder?: string[]
  noiseLevel?: number
  guidanceRescale?: number
  guidanceInterval?: [from: number, to: number]
  deepCache?: { interval: number; depth?: number }
  tokenMerging?: number
  clipSkip?: number
  weighting: boolean
  init?: string
  mask?: string
  depth?: string
  strength?: number
  device?: DeviceOption
  precision?: Precision
  kernels?: Kernels
  lora?: { path: string; scale: number }[]
  loraFolder?: string
  embedding?: { path: string; token?: string }[]
  ipAdapter?: string[]
  imageEncoder?: string
  imagePrompt?: { image: string; scale: number }[]
  control?: ControlFlag[]
  refiner?: string
  refinerStart?: number
  tinyVae?: string
  decoder?: 'full' | 'tiny'
  lowMemory?: boolean
  threads?: number
  preview?: string | true
  format?: 'png' | 'jpeg' | 'webp'
  quality?: number
  metadata: boolean
  quiet?: boolean
  json?: boolean
  verbose?: boolean
}

export interface InfoFlags {
  device?: DeviceOption
  size?: { width: number; height: number }
  batch?: number
  steps?: number
  cfg?: number
  lowMemory?: boolean
  json?: boolean
  verbose?: boolean
}

export interface QuantizeFlags {
  type: string
  rules?: string
  quiet?: boolean
  json?: boolean
  verbose?: boolean
}

export interface MergeFlags {
  lora: { path: string; scale: number }[]
  type?: string
  rules?: string
  quiet?: boolean
  json?: boolean
  verbose?: boolean
}

export interface BuildFlags {
  native?: boolean
  ifNeeded?: boolean
  verbose?: boolean
}

export interface PullFlags {
  variant?: string
  quiet?: boolean
  json?: boolean
  verbose?: boolean
}

/** Images in total. */
export function countOf({ count, batch }: GenerateFlags): number {
  return count ?? batch ?? 1
}
