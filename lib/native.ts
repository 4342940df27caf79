/**
 * The typed contract of the native addon: everything that binding/ exports. JavaScript validates options; the engine
 * takes plain structs and checks file bounds and tensor shapes once more.
 */
import { loadAddon } from './load-addon.js'

/** Element types that the engine reads and writes. Quantized names are ggml's, in lower case. */
export type GgmlTensorType =
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
 * Element types of stored tensors. The last ones are only read: 'f8_e4m3' is torch's float8_e4m3fn and 'f8_e5m2' its
 * float8_e5m2.
 */
export type TensorType = GgmlTensorType | 'f64' | 'f8_e4m3' | 'f8_e5m2'

/**
 * The type in which matrix products and convolutions multiply: float32, bfloat16, or int8 with scales. Sums are always
 * float32. 'auto' multiplies float32 weights as float32, 16-bit weights as bfloat16 where the CPU is fast at it, and
 * quantized weights as int8. Autoencoders multiply int16 in place of bfloat16 on CPUs with AVX512-VNNI.
 */
export type Precision = 'auto' | 'f32' | 'bf16' | 'int8'

/** 'auto': the fastest of this CPU. 'portable': those that every CPU of its architecture has. */
export type Kernels = 'auto' | 'portable'

/**
 * Which matrices stay in memory: all, those that are used in every denoising step, or none. The others are read from
 * their file and packed whenever a layer needs them.
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
  /** A factor of all elements. Default: 1. */
  scale?: number
  /** What adapters (LoRA and its relatives) change in this tensor when its rows are read. */
  adapters?: TensorAdapter[]
  /** In a variant: whether the tensor differs from that of its base. */
  changed?: boolean
}

/**
 * The change ΔW of one tensor W [outputs, row] by one adapter. 'low-rank' (LoRA, LoCon): up·down; 'hadamard' (LoHa): the
 * elementwise product of two matrices; 'kronecker' (LoKr): their Kronecker product; 'difference': ΔW itself;
 * 'rescale-…' ((IA)³): W times a factor for each output or input.
 */
export interface TensorAdapter {
  kind: 'low-rank' | 'hadamard' | 'kronecker' | 'difference' | 'rescale-outputs' | 'rescale-inputs'
  /** ΔW is multiplied by it: alpha / rank and, without `magnitude`, the strength asked for. */
  scale: number
  /** One matrix, or two for 'hadamard' and 'kronecker': [matrix], [up, down] or [up, down, core]. */
  factors: TensorEntry[][]
  /** `up` is stored [rank, outputs] in the matrices with a core. */
  transposedUp?: boolean
  /** DoRA: W + ΔW is rescaled to these norms, of its outputs or of its inputs. */
  magnitude?: TensorEntry
  magnitudeOfInputs?: boolean
  /** With `magnitude`: how far to go from W (0) to the result (1). */
  strength?: number
}

/** What tells a file and its state from others, as fstat() reports it. Times are in nanoseconds. */
export interface FileIdentity {
  device: bigint
  inode: bigint
  size: bigint
  modified: bigint
  changed: bigint
  links: bigint
}

/** The stored weights of a component. Names have no component prefix: `down_blocks.0.resnets.0.conv1.weight`. */
export interface ModelSource {
  files: string[]
  /**
   * What each file was when its header was read. A file that is another one when the engine opens it, or has changed
   * since, is refused with code IO.
   */
  identities?: FileIdentity[]
  tensors: TensorEntry[]
  /** Default: 'auto'. */
  precision?: Precision
  /** Default: 'auto'. Loading rejects with code DEVICE_UNAVAILABLE if the CPU does not have them. */
  kernels?: Kernels
  /**
   * Default: 'all'. Calls of a model whose weights are streamed reject with code IO if its file has changed or cannot
   * be read.
   */
  residency?: Residency
  /** Default: the CPU. The model keeps it open. */
  device?: CudaDevice
  /** No weights are read: the model tells what memory and work it takes, and refuses every other call. CPU only. */
  plan?: boolean
  /** All tensors are zeros, whatever the files: for measuring speed. */
  zeros?: boolean
}

/** Settles when another thread has freed what no call uses; undefined: that is free already. */
export type Freed = Promise<void> | undefined

/** Memory of a GPU in bytes, of all processes. */
export interface DeviceMemory {
  free: number
  total: number
}

/** A GPU as the driver describes it. */
export interface CudaDeviceInfo {
  number: number
  name: string
  /** 90 for compute capability 9.0. */
  capability: number
  /** Bytes of memory. */
  memory: number
  /** Where the times of products come from; undefined until the process has opened the GPU. */
  tiles?: string
  /** Whether Hopper's own kernels are used, and why; undefined until the process has opened the GPU. */
  hopper?: string
  /** Whether kernels overlap, and why; undefined until the process has opened the GPU. */
  overlap?: string
}

/** A GPU that is open, for loading models on it. All objects of one GPU share its context. */
export interface CudaDevice {
  /** Throws an error of code DEVICE_LOST. */
  memory(): DeviceMemory
  /** The device closes when the last model on it has been disposed, too. */
  dispose(): Freed
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
  /** CLIPTextModelWithProjection: width of the pooled output. Absent: there is no projection. */
  projectionWidth?: number
  /** Whether the projection is stored [width, projectionWidth], as in OpenCLIP's files. */
  projectionTransposed?: boolean
}

/** What UNet2DConditionModel embeds beside the timestep as a class: see UnetConfig. */
export type ClassEmbedding =
  /** A row of a table: diffusers' num_class_embeds. */
  | { kind: 'table'; count: number }
  /** A number, as the timestep is embedded. */
  | { kind: 'timestep' }
  /** A vector of this width. */
  | { kind: 'projection'; width: number }

/** k-diffusion's UNet, whose layers have other widths: see UnetConfig. */
export interface KBlocks {
  /** Channels of one attention head. */
  headWidth: number
  /** Channels of one group of a normalization. */
  groupWidth: number
  /** Of the embedded timestep. */
  timeWidth: number
  /** Of the condition that is embedded with the timestep. */
  conditionWidth: number
}

/** UNet2DConditionModel. Arrays have one element for each resolution level, highest resolution first. */
export interface UnetConfig {
  inChannels: number
  outChannels: number
  blockChannels: number[]
  layersPerBlock: number[]
  /**
   * Transformer blocks of each attention of a level, in the encoder and the decoder (also listed from the highest
   * resolution): one number for all layers of the level, or one for each. 0: no attention.
   */
  downTransformerDepth: (number | number[])[]
  upTransformerDepth: (number | number[])[]
  /** Transformer blocks of the middle block. −1: the model has no middle block; 0: one residual block without attention (UNetMidBlock2D). */
  midTransformerDepth: number
  heads: number[]
  /**
   * 1 for each level of which the first attention of each transformer block has the context in place of the image itself
   * (the ×4 upscaler), else 0. Absent: no level has.
   */
  onlyCrossAttention?: number[]
  contextWidth: number
  normGroups: number
  normEps: number
  /** Whether the sinusoidal timestep embedding has its cosines first (as in Stable Diffusion). */
  flipSinToCos: boolean
  /** Frequency shift of the timestep embedding. */
  freqShift: number
  /**
   * SDXL: the width of pooled text and embedded numbers (sizes, scores) together, and of one embedded number. Absent:
   * the model takes neither.
   */
  added?: { width: number; timeWidth: number }
  /** LCM: the width of the embedded guidance scale. Absent: the guidance scale is not an input. */
  guidanceWidth?: number
  /** Absent: the model has no class embedding. */
  classEmbedding?: ClassEmbedding
  /**
   * Set if it has K-blocks (the ×2 latent upscaler): no middle block, no feed-forward networks, one skip connection for each
   * level. Depths are 1 for levels with attention; `heads`, `normGroups` and `freqShift` do not count.
   */
  kBlocks?: KBlocks
}

/** ControlNetModel: a copy of a UNet's encoder and middle block that also sees a picture. */
export interface ControlNetConfig {
  /** The UNet that it is a copy of. Its decoder does not count: `outChannels` and `upTransformerDepth` may be anything. */
  unet: UnetConfig
  imageChannels: number
  /** Channels of the layers that embed the picture, from full resolution down to that of the latents. */
  imageWidths: number[]
  /**
   * ControlNetUnionModel, which takes several kinds of pictures: their number, and the layers of the transformer that
   * fuses them. Absent: the ControlNet takes one kind.
   */
  union?: { types: number; layers: number }
}

/**
 * ControlLLLite: small networks that change the inputs of projections of a UNet's attentions. Tensor names:
 * `3.queries.down.0.weight` for transformer block 3, …
 */
export interface ControlLlliteConfig {
  imageChannels: number
  /** Channels of the embedded picture. */
  conditionWidth: number
  /** Channels of the hidden layers. */
  width: number
  /** Those that have a network; they are counted in the order encoder, middle block, decoder. */
  blocks: {
    block: number
    channels: number
    /** Of self-attention's queries, keys and values, and of cross-attention's queries: 1 for those that have one, else 0. */
    projections: number[]
    /** Sides of the convolutions that embed the picture, which are also their strides. */
    kernels: number[]
  }[]
}

/** T2IAdapter: a small network whose features are added to those of a UNet's encoder. */
export interface T2iAdapterConfig {
  imageChannels: number
  /** Pixels along one side that become one of the first feature. */
  factor: number
  /** Of each feature. */
  channels: number[]
  /** Whether a feature has half the size of the one before: 0 or 1. */
  halves: number[]
  /** Residual blocks of each feature. */
  blocks: number
  /** Whether they have a quarter of the channels. */
  light: boolean
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

/** AutoencoderTiny (TAESD). The lists have one element for each resolution, in the order of the data flow. */
export interface TinyVaeConfig {
  inChannels: number
  outChannels: number
  latentChannels: number
  /** Channels of every hidden layer. */
  width: number
  /** Residual blocks. Empty: there is no encoder. */
  encoderBlocks: number[]
  decoderBlocks: number[]
}

/** CLIPVisionModelWithProjection. Tensor names: `embeddings.class_embedding`, `encoder.layers.0.self_attn.q_proj.weight`, … */
export interface ImageEncoderConfig {
  /** Pixels along each side of an image, and of a patch. */
  imageSize: number
  patchSize: number
  channels: number
  width: number
  layers: number
  heads: number
  intermediate: number
  activation: 'quick_gelu' | 'gelu'
  layerNormEps: number
  /** Width of the embedding. */
  projectionWidth: number
  /** Whether the projection is stored [width, projectionWidth], as in OpenCLIP's files. */
  projectionTransposed?: boolean
}

/**
 * IP-Adapter's projection of an image's embedding to tokens: one matrix and a norm ('linear'), two with GELU between them
 * ('mlp'), or queries that attend to the embedding's tokens ('resampler'), also with queries made of the embedding of a
 * face ('faceResampler').
 */
export interface ImageProjectionConfig {
  kind: 'linear' | 'mlp' | 'resampler' | 'faceResampler'
  /** Of an embedding's tokens. */
  width: number
  /** Of the result's. */
  contextWidth: number
  /** Resamplers: tokens of the result; others: tokens that each token of an embedding becomes. */
  tokens: number
  /** 'mlp': between its matrices; resamplers: of its queries. */
  hidden?: number
  /** Resamplers. */
  layers?: number
  heads?: number
  headDim?: number
  intermediate?: number
  /** 'faceResampler': of a face's embedding, and between the matrices that make queries of it. */
  faceWidth?: number
  faceHidden?: number
  /** 'faceResampler': whether the queries are added to the result. */
  shortcut?: boolean
}

/** An IP-Adapter. Tensor names: `image_proj.…` and `ip_adapter.1.to_k_ip.weight`, … */
export interface IpAdapterConfig {
  projection: ImageProjectionConfig
  /** The UNet that it was made for. */
  unet: UnetConfig
}

/** The configurations by the kind of model that they describe. */
export interface ModelConfigs {
  textEncoder: TextEncoderConfig
  unet: UnetConfig
  controlNet: ControlNetConfig
  controlLllite: ControlLlliteConfig
  t2iAdapter: T2iAdapterConfig
  vae: VaeConfig
  tinyVae: TinyVaeConfig
  imageEncoder: ImageEncoderConfig
  ipAdapter: IpAdapterConfig
}

/** A tensor that a model is made from; shape in torch order, outermost first. */
export interface RequiredTensor {
  name: string
  shape: number[]
}

/** The largest values that the engine accepts. */
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
  /** Kinds of pictures of a union ControlNet. */
  readonly controlTypes: number
  readonly threads: number
  /** Timesteps of which prepare() keeps results. */
  readonly preparedTimesteps: number
}

/** Cancels a running call, which then rejects with an error whose `cancelled` is true. */
export interface CancelToken {
  cancel(): void
}

interface NativeModel {
  /** Bytes of the weights in memory. */
  readonly weightBytes: number
  /** Memory of the GPU that the model is on; null on the CPU. */
  deviceMemory(): DeviceMemory | null
  /** Bytes that the threads need in a call besides its working memory; they depend on the number of threads. */
  readonly threadBytes: number
  /**
   * Tensors of a run of so many images, of `elements` numbers each, that stay in the GPU's memory between predictions, and
   * `further` numbers of further input channels; null on the CPU. Takes no memory yet.
   */
  residentTensors(images: number, elements: number, further: number): NativeResidentTensors | null
  /**
   * Releases working memory; the next call allocates it again. Does not wait for a running call, which then releases it.
   * undefined: it was released at once, because there was no thread for it.
   */
  trim(): Promise<void> | undefined
  /** Frees the model as soon as no call is running; later calls throw an error of code DISPOSED. */
  dispose(): Freed
}

/** Tokens [n, length] and what of their encoding is wanted. */
export interface TextCall {
  tokens: Int32Array
  n: number
  length: number
  /** Number of last layers to leave out. */
  skip: number
  /** Whether the hidden states go through the final norm. Default: true. */
  finalNorm?: boolean
  /** Position of each row's end token, [n]. With them, the pooled output follows the hidden states. */
  pooledPositions?: Int32Array
  /** Vectors of words that are not in the vocabulary, [vectorCount, width]: id vocabSize + i stands for the i-th one. */
  vectors?: Float32Array
  vectorCount?: number
}

export interface NativeTextEncoder extends NativeModel {
  /**
   * Returns the hidden states [n, length, width] and, with `pooledPositions`, behind them the pooled output [n,
   * projectionWidth]: the projected state at the end token after all layers and the final norm.
   */
  encode(call: TextCall, cancel?: CancelToken): Promise<Float32Array>
  /** Bytes of working memory that such a call needs. */
  workingBytes(call: { n: number; length: number }): number
}

/** Features from deep in the UNet that a run keeps for its later steps (DeepCache). */
export interface DeepFeatures {
  /** Frees the features; the object can be used again. */
  dispose(): Freed
}

/**
 * Tensors that a run keeps in the engine from step to step: embedded pictures and residuals of ControlNets, features of
 * T2I-Adapters.
 */
export interface KeptTensors {
  /** Frees the tensors; the object can be used again. */
  dispose(): Freed
}

/** What is computed with resident tensors, which are numbered 0…255: uploads, then operations. */
export interface ResidentProgram {
  uploads: { tensor: number; values: Float32Array }[]
  /** Of each operation: kind, check, out, the number of terms (1…8), then a factor and a tensor for each; see nd::ResidentOperation. */
  operations: Float64Array
  /** Further input channels [rows, channels, h, w] of the largest batch of the run; once. */
  further?: Float32Array
}

/** Latents, predictions and a scheduler's tensors, which stay in a GPU's memory for a run. */
export interface NativeResidentTensors {
  /**
   * Computes, then copies tensors, one after the other. `badPrediction` and `badLatents`: how many programs had been run
   * when those that are checked were first not finite; 0: they never were.
   */
  read(
    call: { program: ResidentProgram; tensors: number[] },
    cancel?: CancelToken,
  ): Promise<{ data: Float32Array; badPrediction: number; badLatents: number }>
  /** Frees the tensors as soon as no call uses them. */
  dispose(): Freed
}

/** Tensors of the UNet's device, and what is computed before the prediction. */
export interface ResidentCall {
  tensors: NativeResidentTensors
  program: ResidentProgram
}

/** Options that trade fidelity for speed. */
export interface UnetCallOptions {
  /** Fraction of the tokens, 0…0.75, that are merged before self-attention at the highest resolution. */
  tokenMerging?: number
  /** Where to keep the input of the last `depth` decoder layers. */
  deep?: DeepFeatures
  /** 1…maxDepth. */
  depth?: number
  /** Compute only those layers if features of this model, depth and shape of latents were kept. */
  reuse?: boolean
}

/** What a prediction is conditioned on besides the latents. */
export interface NativeConditioning {
  /** [n] */
  timesteps: Float32Array
  /** [n, contextLength, contextWidth] */
  context: Float32Array
  contextLength: number
  /** UnetConfig.added: pooled text [n, pooledWidth] and numbers [n, timeIdCount]. */
  pooled?: Float32Array
  pooledWidth?: number
  timeIds?: Float32Array
  timeIdCount?: number
  /** UnetConfig.guidanceWidth: guidance scales [n]. */
  guidance?: Float32Array
  /** UnetConfig.classEmbedding: classes [n], or vectors [n, width]. */
  classes?: Float32Array
  /** ControlNetConfig.union: which kinds of pictures are given, [n, types], each 0 or 1. For ControlNets only. */
  controlTypes?: Float32Array
  /** UnetConfig.kBlocks: what is embedded with the timestep, [n, conditionWidth]. */
  timestepCond?: Float32Array
  /** What ControlNets add to the skip connections and the middle block. For the UNet only. */
  residuals?: KeptTensors
  /** Images that cross-attention attends to beside the context. For the UNet only. */
  images?: NativeImagePrompt[]
  /** The features of T2I-Adapters, which the encoder adds to what it computes. For the UNet only. */
  features?: NativeFeatures[]
  /** ControlLLLites, which change what projections of attentions see. For the UNet only. */
  inputs?: NativeInputs[]
}

/** A ControlLLLite and what it embedded: row i has picture i modulo their number. */
export interface NativeInputs {
  net: NativeControlLllite
  kept: KeptTensors
  scale: number
  /** The rows of the batch that it changes. */
  first: number
  count: number
}

/** What an IP-Adapter kept of a prompt, and how a prediction uses it. */
export interface NativeImagePrompt {
  kept: KeptTensors
  /** Which of the prompt's embeddings each row of the batch attends to, [n]. */
  rows: Int32Array
  scale: number
}

/** The sizes of an image prompt: `count` embeddings, each of `images` together, of `rows` tokens; h and w are those of the latents, where it has a mask. */
export interface ImagePromptSizes {
  count: number
  images: number
  rows: number
  h?: number
  w?: number
}

export interface ImagePromptCall extends ImagePromptSizes {
  /** [count, images, rows, width] */
  embeddings: Float32Array
  /** 'faceResampler': [count, images, faceWidth] */
  faces?: Float32Array
  /** The mask at each level of the UNet, the highest resolution first. */
  masks?: Float32Array
  to: KeptTensors
}

/** The features of one T2I-Adapter, as embed() left them: row i has those of picture i modulo their number. */
export interface NativeFeatures {
  kept: KeptTensors
  /** A factor of each feature. */
  scales: Float32Array
  scaleCount: number
  /** The rows of the batch that they are added to. */
  first: number
  count: number
}

/**
 * The input of a prediction: latents [n, inChannels, h, w] and the conditioning. Arrays are copied before the call
 * returns.
 */
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
  conditioning: Pick<NativeConditioning, 'contextLength'> & {
    /** Tokens of each image prompt. Default: none. */
    imageLengths?: number[]
  }
  options?: UnetCallOptions
}

export interface NativeUnet extends NativeModel {
  /** Largest `depth` of deep features: all layers of the decoder but one. */
  readonly maxDepth: number
  /**
   * Predicts with resident tensors: tensor 0 is the latents of all images, which the n rows repeat, and which the first n
   * rows of further input channels follow. The prediction becomes tensor 1 and, with two or three times as many rows as
   * images, those behind it. UNets with kBlocks do not have it.
   */
  predict(
    call: Omit<UnetCall, 'latents'> & { resident: ResidentCall },
    cancel?: CancelToken,
  ): Promise<undefined>
  /** Returns the prediction [n, outChannels, h, w]. */
  predict(call: UnetCall, cancel?: CancelToken): Promise<Float32Array>
  /**
   * Computes ahead, all at once, what n rows of conditions give without their context; predict() would do it one by
   * one. Of more rows than limits.preparedTimesteps only the first ones count, because no more are kept.
   */
  prepare(
    call: { conditioning: Omit<NativeConditioning, 'context' | 'contextLength'>; n: number },
    cancel?: CancelToken,
  ): Promise<void>
  /**
   * Bytes of working memory that such a call needs, computed without allocating it. What is kept between calls, deep
   * features included, is part of it.
   */
  workingBytes(sizes: UnetSizes): number
}

/** What a ControlNet is asked for. */
export interface ControlCall extends Omit<UnetCall, 'options' | 'latents'> {
  /** [n, inChannels, h, w] */
  latents?: Float32Array
  /** In place of `latents`: as NativeUnet.predict() reads them. */
  resident?: ResidentCall
  /**
   * As embed() left them: row i has picture i modulo their number. Only a union ControlNet takes more than one, and a
   * scale counts only then.
   */
  pictures: { kept: KeptTensors; scale: number }[]
  /** A factor of each residual. */
  scales: Float32Array
  /** Where the residuals of all `total` rows of the UNet's batch are added up. These rows begin at `first`. */
  to: KeptTensors
  first: number
  total: number
  /** Whether what `to` had is forgotten; other rows become 0. */
  replaces: boolean
}

export interface NativeControlNet extends NativeModel {
  /** Number of residuals: one for each skip connection, and the middle block's. */
  readonly residuals: number
  /**
   * Embeds pictures [n, imageChannels, f·h, f·w] for latents of h × w. For a union ControlNet: what they show, and their
   * scale where they guide together with others.
   */
  embed(
    call: {
      pictures: Float32Array
      n: number
      h: number
      w: number
      to: KeptTensors
      type?: number
      scale?: number
    },
    cancel?: CancelToken,
  ): Promise<void>
  predict(call: ControlCall, cancel?: CancelToken): Promise<void>
  /** As that of NativeUnet. */
  prepare: NativeUnet['prepare']
  /** Bytes that calls with n rows take: working memory, and what the run keeps. Nothing is allocated. */
  memory(sizes: Omit<UnetSizes, 'options'> & { pictures: number }): {
    working: number
    pictures: number
    residuals: number
  }
}

export interface NativeControlLllite extends NativeModel {
  /** Sides of pictures must be multiples of it. */
  readonly factor: number
  /** Embeds pictures [n, imageChannels, h, w] of −1…1. */
  embed(
    call: { pictures: Float32Array; n: number; h: number; w: number; to: KeptTensors },
    cancel?: CancelToken,
  ): Promise<void>
  /**
   * Bytes that such a call takes, that a forward of the UNet of `rows` images takes more, and that are kept. Nothing is
   * allocated.
   */
  memory(sizes: { n: number; h: number; w: number; rows: number }): {
    embedding: number
    forward: number
    kept: number
  }
}

export interface NativeT2iAdapter extends NativeModel {
  /** Number of features. */
  readonly features: number
  /** Computes the features of pictures [n, imageChannels, h, w]. */
  embed(
    call: { pictures: Float32Array; n: number; h: number; w: number; to: KeptTensors },
    cancel?: CancelToken,
  ): Promise<void>
  /** Bytes that such a call takes: working memory, and what it keeps. Nothing is allocated. */
  memory(sizes: { n: number; h: number; w: number }): { working: number; features: number }
}

/** n images or latents of h × w, and the working memory that coding them may take; null: any. */
type CodingCall = [
  tensor: Float32Array,
  n: number,
  h: number,
  w: number,
  maxBytes: number | null,
  cancel?: CancelToken,
]

/**
 * The common interface of all autoencoders. Images are processed one at a time. `maxBytes` limits the working memory
 * of a call where that is possible: the less it is, the longer the call takes, and results differ only by rounding.
 * null means no limit.
 */
export interface NativeAutoencoder extends NativeModel {
  /** Image [n, inChannels, h, w] → latents [n, …, h/f, w/f]. */
  encode(...call: CodingCall): Promise<Float32Array>
  /** Latents [n, …, h, w] → image [n, outChannels, f·h, f·w]. */
  decode(...call: CodingCall): Promise<Float32Array>
  /** The same as RGB, [n, f·h, f·w, 3] (lib/image/planes.ts), and whether all numbers were finite. */
  decodeImage(...call: CodingCall): Promise<{ bytes: Uint8Array; finite: boolean }>
  /** Bytes of working memory of such a call; they do not depend on `n`. */
  encodeBytes(n: number, h: number, w: number, maxBytes: number | null): number
  decodeBytes(n: number, h: number, w: number, maxBytes: number | null): number
}

/**
 * AutoencoderKL: encode() returns moments [n, 2·latentChannels, h/f, w/f], the mean and then the log variance, with
 * sizes rounded down; decode() takes unscaled latents [n, latentChannels, h, w]. VQModel: encode() returns latents [n,
 * codebook.width, …] before quantization, and decode() takes quantized ones.
 */
export interface NativeVae extends NativeAutoencoder {
  /** VQModel: latents [n, codebook.width, h, w] → the nearest code of each latent pixel, [n, h, w]. */
  quantize(latents: Float32Array, n: number, h: number, w: number, cancel?: CancelToken): Promise<Int32Array>
  /** VQModel: codes [n, h, w] → their codebook vectors as latents [n, codebook.width, h, w]. */
  lookup(codes: Int32Array, n: number, h: number, w: number, cancel?: CancelToken): Promise<Float32Array>
}

/**
 * AutoencoderTiny: latents [n, latentChannels, h/f, w/f] are scaled as in diffusion, and sizes are rounded up. encode()
 * rejects if the file has no encoder.
 */
export interface NativeTinyVae extends NativeAutoencoder {}

export interface NativeImageEncoder extends NativeModel {
  /**
   * Normalized images [n, channels, imageSize, imageSize] to their embeddings [n, projectionWidth]; with `skip`, to the
   * hidden states [n, tokens, width] before that many last layers, without the final norm.
   */
  encode(
    call: { images: Float32Array; n: number; skip?: number },
    cancel?: CancelToken,
  ): Promise<Float32Array>
  /** Bytes of working memory of such a call. */
  workingBytes(n: number): number
}

export interface NativeIpAdapter extends NativeModel {
  /** Computes what cross-attention attends to, and keeps it in `to`. */
  encode(call: ImagePromptCall, cancel?: CancelToken): Promise<void>
  /** Bytes of working memory of such a call, and of what it keeps. */
  memory(sizes: ImagePromptSizes): { working: number; kept: number }
}

/** Rows of a tensor converted to another type, and the error of the conversion. */
export interface ConvertedRows {
  bytes: Uint8Array
  /** Σ (converted − original)². Not finite if the type cannot represent a value. */
  squaredError: number
  /** Σ original². */
  squaredNorm: number
}

export interface CpuInfo {
  /** Instruction sets of this CPU that the engine can use. */
  features: string[]
  /** Names of the kernel tables that this CPU can run, best first. */
  kernels: string[]
  /** The kernel table in use. */
  kernel: string
  threads: number
  physicalCores: number
}

/** Time of one kind of layer in profiled forward passes, excluding the layers inside it. */
export interface ProfileRow {
  kind: string
  /** The type in which its products multiply. */
  compute: 'f32' | 'bf16' | 'int8' | 'int16'
  seconds: number
  /**
   * Multiplications and additions of its products as they are computed: Winograd needs fewer than direct convolution.
   */
  operations: number
  /** Of activations ('everything else': all of them), or of weights that are read whenever they are needed. */
  bytes: number
}

export interface Native {
  cpu(): CpuInfo
  /** The GPUs of this machine. Rejects with code DEVICE_UNAVAILABLE if there is no driver, or no GPU. */
  cudaDevices(cancel?: CancelToken): Promise<CudaDeviceInfo[]>
  /** Opens GPU `number`. `image` has the kernels, a cubin or PTX; it is not used if the GPU is open already. */
  openCudaDevice(number: number, image: Uint8Array, cancel?: CancelToken): Promise<CudaDevice>
  /**
   * For benchmarks. true starts profiling all forward passes of this process, false stops it. Returns the measurements
   * since the last call, longest time first. It costs nothing while it is off.
   */
  profile(on: boolean): ProfileRow[]
  /**
   * Calls `measure`, and returns the work of the calls whose memory is asked for in it: operations and bytes by kind of
   * layer. Seconds mean nothing here.
   */
  countWork(measure: () => void): ProfileRow[]
  /**
   * Sets the number of threads of the process, 1…limits.threads. Waits until the current layer of running calls ends.
   */
  setThreads(threads: number): void
  readonly limits: Limits
  /**
   * Every tensor that a model of this configuration is made from, found by a dry run of its constructor. Throws a
   * RangeError if fields of the configuration contradict each other.
   */
  requiredTensors<Kind extends keyof ModelConfigs>(kind: Kind, config: ModelConfigs[Kind]): RequiredTensor[]
  CancelToken: new () => CancelToken
  DeepFeatures: new () => DeepFeatures
  KeptTensors: new () => KeptTensors
  /**
   * With `base`, a model of the same configuration, the model is a variant of it: on the same device, with the same layers
   * in memory but for those of changed tensors. `weightBytes` counts what is not shared. Neither needs the other to stay
   * undisposed.
   */
  loadTextEncoder(
    config: TextEncoderConfig,
    source: ModelSource,
    cancel?: CancelToken,
    base?: NativeTextEncoder,
  ): Promise<NativeTextEncoder>
  loadUnet(
    config: UnetConfig,
    source: ModelSource,
    cancel?: CancelToken,
    base?: NativeUnet,
  ): Promise<NativeUnet>
  loadControlNet(
    config: ControlNetConfig,
    source: ModelSource,
    cancel?: CancelToken,
  ): Promise<NativeControlNet>
  loadControlLllite(
    config: ControlLlliteConfig,
    source: ModelSource,
    cancel?: CancelToken,
  ): Promise<NativeControlLllite>
  loadT2iAdapter(
    config: T2iAdapterConfig,
    source: ModelSource,
    cancel?: CancelToken,
  ): Promise<NativeT2iAdapter>
  loadVae(config: VaeConfig, source: ModelSource, cancel?: CancelToken): Promise<NativeVae>
  loadTinyVae(config: TinyVaeConfig, source: ModelSource, cancel?: CancelToken): Promise<NativeTinyVae>
  loadImageEncoder(
    config: ImageEncoderConfig,
    source: ModelSource,
    cancel?: CancelToken,
  ): Promise<NativeImageEncoder>
  loadIpAdapter(config: IpAdapterConfig, source: ModelSource, cancel?: CancelToken): Promise<NativeIpAdapter>
  /**
   * Rows first … first + count − 1 of the one tensor of `source`, converted to `type`. Rows run along the outermost
   * dimension; a vector is one row. Convolution kernels come as (kh, kw, I) with `channelsLast`, otherwise as (I, kh,
   * kw). Throws a RangeError if the innermost dimension does not fill the type's blocks. Takes memory for these rows
   * only.
   */
  convertRows(
    source: ModelSource,
    type: GgmlTensorType,
    channelsLast: boolean,
    first: number,
    count: number,
    cancel?: CancelToken,
  ): Promise<ConvertedRows>
}

/**
 * The addon of this platform. Its functions throw TypeErrors and RangeErrors for wrong arguments before they return a
 * promise; all other failures are Errors with one of DiffusionErrorCode as `code`.
 *
 * @throws {DiffusionError} NATIVE_UNAVAILABLE: it cannot be loaded
 */
export function native(): Native {
  addon ??= loadAddon() as Native
  return addon
}

let addon: Native | undefined
