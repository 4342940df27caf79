/**
 * node-diffusion: latent diffusion inside a Node process.
 *
 * ```ts
 * import { DiffusionPipeline } from 'node-diffusion'
 *
 * const pipe = await DiffusionPipeline.load()
 * const { images } = await pipe.generate({ prompt: 'noto pizza' })
 * await images[0].toFile('pizza.png')
 * await pipe.dispose()
 * ```
 *
 * @packageDocumentation
 */
export { DiffusionPipeline, bundledModelPath } from './pipeline/diffusion-pipeline.js'
export type { ModelInfo } from './pipeline/model-info.js'
export type { GenerateResult, Timings } from './pipeline/result.js'
export type { StepEvent } from './step-event.js'
export type { EstimateOptions } from './pipeline/diffusion-pipeline.js'
export type { DeviceEstimate, Estimate, SecondsNeeded } from './pipeline/estimate.js'
export type { MemoryNeeded } from './pipeline/memory-plan.js'
export type { AdapterReport, IpAdapterInput } from './adapters/index.js'
export type { AccelerationOptions, DeepCacheSetting } from './options/index.js'
export type {
  ConditionOptions,
  ControlFit,
  Colour,
  ControlOptions,
  ControlType,
  GenerateOptions,
  ImageInput,
  ImagePromptOptions,
  LoadOptions,
  LoraOption,
  PlainPreprocessor,
  Preprocessor,
} from './options/index.js'
export type { TilingOption } from './options/index.js'
export { presets, type Preset, type PresetName } from './options/index.js'

export { AutoencoderKL, type AutoencoderOptions, type TiledCallOptions } from './pipeline/autoencoder.js'
export { preprocessImage } from './control/picture.js'
export { ControlNet } from './pipeline/control-net.js'
export type { IpAdapter } from './pipeline/ip-adapter.js'
export type { ControlModel } from './pipeline/controls.js'
export type { ControlLllite } from './pipeline/control-lllite.js'
export { T2iAdapter } from './pipeline/t2i-adapter.js'
export { AutoencoderTiny } from './pipeline/tiny-autoencoder.js'
export { ImageEncoder } from './pipeline/image-encoder.js'
export { TextEncoder, type PooledEncoding, type TextEncodeOptions } from './pipeline/text-encoder.js'
export { Unet, type UnetInput } from './pipeline/unet.js'
export type { Conditioning, EmbeddedConditioning } from './pipeline/conditioning.js'
export {
  VqModel,
  vqLosses,
  bundledVqModelPath,
  type Codes,
  type VqEncoding,
  type VqLosses,
} from './pipeline/vq-model.js'
export type { CallOptions } from './pipeline/component.js'
export { DeepCache } from './pipeline/deep-cache.js'
export { guide } from './pipeline/guidance.js'

export {
  createScheduler,
  defaultSchedulerName,
  schedulerNames,
  type BuiltInScheduler,
  type SchedulerName,
  type SchedulerOptions,
  type SigmaMethod,
  type SigmaSpacing,
  type Spacing,
  type TimestepMethod,
} from './schedulers/index.js'
export { randomFor, rngNames, type RngName } from './random/index.js'
export { Tokenizer } from './prompt/tokenizer.js'
export {
  toTensor as imageToTensor,
  Image,
  type EncodeOptions,
  type FileOptions,
  type ImageFormat,
  type ImageMetadata,
  type ImageSize,
  type ImageSource,
} from './image/index.js'
export {
  cachedModels,
  pullModel,
  wellKnownModels,
  type CachedModel,
  type PullOptions,
  type PullProgress,
  type WellKnownModel,
} from './hub/index.js'
export {
  openModel,
  type ModelDescription,
  type OpenOptions,
  type ScheduleDescription,
} from './models/index.js'
export type {
  ComponentDescription,
  ImageEncoderDescription,
  UnclipDescription,
  TextEncoderDescription,
  TokenizerDescription,
} from './models/model-description.js'
export type { ComponentSummary, TypeSummary } from './models/summary.js'

export {
  mergeModel,
  quantizeModel,
  type MergeOptions,
  type MergeReport,
  type QuantizedGroup,
  type QuantizeOptions,
  type QuantizeProgress,
  type QuantizeReport,
  type TypeFallback,
} from './quantize/index.js'

export { listDevices, type DeviceInfo, type Devices } from './device/index.js'
export { DiffusionError, type DiffusionErrorCode } from './errors.js'
export type {
  AddedToken,
  DeviceName,
  DeviceOption,
  PixelStatistics,
  PredictionType,
  Random,
  Scheduler,
  Tensor,
} from './types.js'

import { native, type CpuInfo } from './native.js'

export type {
  CpuInfo,
  Kernels,
  Precision,
  GgmlTensorType,
  TensorType,
  ImageEncoderConfig,
  ImageProjectionConfig,
  IpAdapterConfig,
  TextEncoderConfig,
  TinyVaeConfig,
  ClassEmbedding,
  KBlocks,
  ControlLlliteConfig,
  ControlNetConfig,
  T2iAdapterConfig,
  UnetConfig,
  VaeConfig,
} from './native.js'

/** The CPU as the engine sees it: instruction sets, available kernels, threads. */
export function cpuInfo(): CpuInfo {
  return native().cpu()
}
