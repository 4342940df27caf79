/**
 * The typed contract of the native addon: everything that binding/ exports and nothing else. JavaScript validates,
 * the engine trusts a plain struct (and checks file bounds and tensor shapes once more).
 */
import { loadAddon } from './load-addon.js'

/** Element types of stored tensors. Quantized names are ggml's, in lower case. */
export type TensorType =
  | 'f32'
  | 'f16'
  | 'bf16'
  | 'q8_0'
  | 'q5_0'
  | 'q5_1'
  | 'q4_0'
  | 'q4_1'
  | 'q6_k'
  | 'q5_k'
  | 'q4_k'
  | 'q3_k'
  | 'q2_k'

/**
 * What matrix products and convolutions multiply: float32, bfloat16, or int8 with scales (sums are always float32).
 * 'auto': float32 weights stay, 16-bit ones multiply as bfloat16, quantized ones as int8, where the CPU is fast at it.
 */
export type Precision = 'auto' | 'f32' | 'bf16' | 'int8'

/**
 * Which matrices are read from their file and packed whenever a layer needs them, and take no memory meanwhile: none,
 * those that work once a picture or less often, or all.
 */
export type Residency = 'all' | 'per-step' | 'none'

/** One tensor of a model under its canonical (diffusers) name; shape in torch order, outermost first. */
export interface TensorEntry {
  name: string
  type: TensorType
  shape: number[]
  /** Index into ModelSource.files. */
  file: number
  /** Bytes from the start of the file. */
  offset: number
  bytes: number
  /** A convolution kernel stored as (O, kh, kw, I); `shape` still says (O, I, kh, kw). */
  channelsLast?: boolean
}

/** Where a component's weights lie. Names have no component prefix: `down_blocks.0.resnets.0.conv1.weight`. */
export interface ModelSource {
  files: string[]
  tensors: TensorEntry[]
  /** How much precision the products may give up; 'auto' (the default) follows the stored weights and the CPU. */
  precision?: Precision
  /** Default: 'all'. Calls of a model with streamed weights reject with code IO where its file has changed or cannot be read. */
  residency?: Residency
}

/** CLIP text model. Tensor names: `embeddings.token_embedding.weight`, `encoder.layers.0.self_attn.q_proj.weight`, … */
export interface TextEncoderConfig {
  vocabSize: number
  width: number
  layers: number
  heads: number
  intermediate: number
  maxPositions: number
  activation: 'quick_gelu' | 'gelu'
  layerNormEps: number
}

/** UNet2DConditionModel. Arrays have one element for each resolution level, highest resolution first. */
export interface UnetConfig {
  inChannels: number
  outChannels: number
  blockChannels: number[]
  layersPerBlock: number[]
  /** Transformer blocks of each attention of a level; 0: the level has no attention. Down, up (listed from the highest resolution too) and middle. */
  downTransformerDepth: number[]
  upTransformerDepth: number[]
  /** −1: the model has no middle block; 0: one residual block without attention (UNetMidBlock2D). */
  midTransformerDepth: number
  heads: number[]
  contextWidth: number
  normGroups: number
  normEps: number
  /** Order of the sinusoidal embedding, cosine first (SD) or sine first; and its frequency shift. */
  flipSinToCos: boolean
  freqShift: number
}

/** AutoencoderKL; with `codebook`, VQModel. Levels as in UnetConfig. */
export interface VaeConfig {
  inChannels: number
  outChannels: number
  latentChannels: number
  blockChannels: number[]
  layersPerBlock: number
  normGroups: number
  midAttention: boolean
  quantConv: boolean
  postQuantConv: boolean
  /** VQModel: number of codes and their width. */
  codebook?: { size: number; width: number }
}

/** AutoencoderTiny (TAESD). Lists have the blocks of each resolution in the order of the data; no encoder where it is empty. */
export interface TinyVaeConfig {
  inChannels: number
  outChannels: number
  latentChannels: number
  /** Channels of every hidden layer. */
  width: number
  encoderBlocks: number[]
  decoderBlocks: number[]
}

/** The configurations by the kind of model that they describe. */
export interface ModelConfigs {
  textEncoder: TextEncoderConfig
  unet: UnetConfig
  vae: VaeConfig
  tinyVae: TinyVaeConfig
}

/** A tensor that a model is made from; shape in torch order, outermost first. */
export interface RequiredTensor {
  name: string
  shape: number[]
}

/** The largest values that the engine accepts in a configuration, and the largest number of threads. */
export interface Limits {
  /** Resolution levels. */
  readonly levels: number
  /** Residual blocks of one level. */
  readonly layersPerLevel: number
  /** Transformer blocks of one attention. */
  readonly transformerDepth: number
  readonly textLayers: number
  /** Channels of any layer, and so heads and normalization groups. */
  readonly channels: number
  /** Hidden width of a text encoder's feed-forward layers. */
  readonly feedForward: number
  /** Tokens of a text encoder, codes of a codebook. */
  readonly vocabulary: number
  /** Tokens of one row. */
  readonly positions: number
  readonly threads: number
  /** Timesteps of which prepare() keeps results. */
  readonly preparedTimesteps: number
}

/** Sets a running call's cancellation flag: the call rejects with an error whose `cancelled` is true. */
export interface CancelToken {
  cancel(): void
}

interface NativeModel {
  /** Bytes of the weights in memory. */
  readonly weightBytes: number
  /** Gives working memory back; the next call allocates it again. */
  trim(): void
  /** Frees weights and memory as soon as no call is running; later calls throw DISPOSED. */
  dispose(): void
}

export interface NativeTextEncoder extends NativeModel {
  /** tokens: [n, length] → hidden states [n, length, width] after the final norm, leaving out the last `skip` layers. */
  encode(
    tokens: Int32Array,
    n: number,
    length: number,
    skip: number,
    cancel?: CancelToken,
  ): Promise<Float32Array>
}

/** Features from deep in the UNet that a run keeps for its later steps. */
export interface DeepFeatures {
  /** Frees them; it can be used again. */
  dispose(): void
}

/** Ways to compute less than all of it. */
export interface UnetCallOptions {
  /** 0…0.75: share of the tokens that self-attention leaves out where the resolution is highest. */
  tokenMerging?: number
  /** Keeps what the last `depth` layers of the way up get from below. */
  deep?: DeepFeatures
  /** 1…layers of the way up − 1. */
  depth?: number
  /** Computes only those layers where features of this model, depth and shape of latents were kept. */
  reuse?: boolean
}

/** What a prediction is conditioned on besides the latents. */
export interface NativeConditioning {
  /** [n] */
  timesteps: Float32Array
  /** [n, contextLength, contextWidth] */
  context: Float32Array
  contextLength: number
}

/** A prediction: latents [n, inChannels, h, w] and what it is conditioned on. Arrays are copied before the call returns. */
export interface UnetCall {
  latents: Float32Array
  n: number
  h: number
  w: number
  conditioning: NativeConditioning
  options?: UnetCallOptions
}

/** The sizes of a prediction. */
export interface UnetSizes {
  n: number
  h: number
  w: number
  conditioning: Pick<NativeConditioning, 'contextLength'>
  options?: UnetCallOptions
}

export interface NativeUnet extends NativeModel {
  /** Largest `depth` of deep features: all layers of the decoder but one. */
  readonly maxDepth: number
  /** → [n, outChannels, h, w] */
  predict(call: UnetCall, cancel?: CancelToken): Promise<Float32Array>
  /**
   * Computes ahead, all at once, what depends on the timesteps [n] alone; predict() would do it one by one. Of more
   * timesteps than limits.preparedTimesteps only the first ones count, because no more are kept.
   */
  prepare(call: { timesteps: Float32Array; n: number }, cancel?: CancelToken): Promise<void>
  /**
   * Bytes of working memory that such a call needs, computed without allocating it. Includes what is kept between calls,
   * deep features among it.
   */
  workingBytes(sizes: UnetSizes): number
}

/**
 * Images are processed one after the other. `maxBytes` is the working memory in bytes that a call may take, as far as that is
 * possible (the less, the longer it takes; the result differs by rounding alone); null: as much as the whole image takes.
 */
export interface NativeAutoencoder extends NativeModel {
  /** image [n, inChannels, h, w] → latents [n, …, h/f, w/f]. */
  encode(
    image: Float32Array,
    n: number,
    h: number,
    w: number,
    maxBytes: number | null,
    cancel?: CancelToken,
  ): Promise<Float32Array>
  /** latents [n, …, h, w] → image [n, outChannels, f·h, f·w]. */
  decode(
    latents: Float32Array,
    n: number,
    h: number,
    w: number,
    maxBytes: number | null,
    cancel?: CancelToken,
  ): Promise<Float32Array>
  /** Bytes of working memory of such a call, whatever `n`. */
  encodeBytes(n: number, h: number, w: number, maxBytes: number | null): number
  decodeBytes(n: number, h: number, w: number, maxBytes: number | null): number
}

/**
 * encode() gives moments [n, 2·latentChannels, h/f, w/f]: mean, then log variance; sizes are rounded down. decode() takes
 * latents [n, latentChannels, h, w], unscaled. VQModel: both are latents [n, codebook.width, …]; encode's are not quantized
 * yet, decode's are.
 */
export interface NativeVae extends NativeAutoencoder {
  /** VQModel: latents [n, codebook.width, h, w] → nearest code of each pixel, [n, h, w]. */
  quantize(latents: Float32Array, n: number, h: number, w: number, cancel?: CancelToken): Promise<Int32Array>
  /** VQModel: codes [n, h, w] → their vectors as latents [n, codebook.width, h, w]. */
  lookup(codes: Int32Array, n: number, h: number, w: number, cancel?: CancelToken): Promise<Float32Array>
}

/**
 * Latents [n, latentChannels, h/f, w/f] are scaled as diffusion has them; sizes are rounded up. Without an encoder, encode
 * rejects.
 */
export interface NativeTinyVae extends NativeAutoencoder {}

/** Rows of a tensor in another type, and what that lost. */
export interface ConvertedRows {
  bytes: Uint8Array
  /** Σ (stored anew − before)²: not finite where a value has no place in the type. */
  squaredError: number
  /** Σ before². */
  squaredNorm: number
}

export interface CpuInfo {
  /** Instruction sets that matter to us and that this CPU has. */
  features: string[]
  /** Names of the kernel tables that can run here, best first, and of the one in use. */
  kernels: string[]
  kernel: string
  threads: number
  physicalCores: number
}

/** Time of one kind of layer in profiled forwards, without what layers inside it took. */
export interface ProfileRow {
  kind: string
  /** What its products multiply. */
  compute: 'f32' | 'bf16' | 'int8'
  seconds: number
  /** Of its products as they are computed (Winograd's are fewer than the convolution's). */
  operations: number
}

export interface Native {
  cpu(): CpuInfo
  /**
   * For benchmarks: true profiles every forward that begins from now on in this process, false ends that. Returns what was
   * measured since the last call, largest time first. It costs nothing while it is off.
   */
  profile(on: boolean): ProfileRow[]
  /** 1…limits.threads threads for the whole process; waits for running work's current layer. */
  setThreads(threads: number): void
  readonly limits: Limits
  /**
   * Every tensor that a model of this configuration is made from, found by a dry run of its constructor. Throws a
   * RangeError where the configuration does not fit together.
   */
  requiredTensors<Kind extends keyof ModelConfigs>(kind: Kind, config: ModelConfigs[Kind]): RequiredTensor[]
  CancelToken: new () => CancelToken
  DeepFeatures: new () => DeepFeatures
  loadTextEncoder(
    config: TextEncoderConfig,
    source: ModelSource,
    cancel?: CancelToken,
  ): Promise<NativeTextEncoder>
  loadUnet(config: UnetConfig, source: ModelSource, cancel?: CancelToken): Promise<NativeUnet>
  loadVae(config: VaeConfig, source: ModelSource, cancel?: CancelToken): Promise<NativeVae>
  loadTinyVae(config: TinyVaeConfig, source: ModelSource, cancel?: CancelToken): Promise<NativeTinyVae>
  /**
   * Rows first … first + count − 1 of the one tensor of `source`, written as `type`: rows of its outermost dimension (a
   * vector is one row). Kernels of convolutions come as (kh, kw, I) when `channelsLast`, else as (I, kh, kw). RangeError
   * where the innermost dimension does not fill the type's blocks. Memory: what the rows need, and no more.
   */
  convertRows(
    source: ModelSource,
    type: TensorType,
    channelsLast: boolean,
    first: number,
    count: number,
    cancel?: CancelToken,
  ): Promise<ConvertedRows>
}

/**
 * The addon of this platform. Its functions throw synchronously a TypeError for wrong argument types and, like the
 * promises, an Error with one of DiffusionErrorCode as `code`.
 */
export function native(): Native {
  addon ??= loadAddon() as Native
  return addon
}

let addon: Native | undefined
