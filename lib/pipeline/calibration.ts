/** How fast this machine computes: measured with a small model of zeros, once for each kind of model in a process. */
import { throwIfAborted } from '../abort.js'
import { FairLock } from '../fair-lock.js'
import { cancellable } from '../native-call.js'
import {
  native,
  type Freed,
  type ModelSource,
  type ProfileRow,
  type TensorEntry,
  type TensorType,
  type UnetConfig,
  type VaeConfig,
} from '../native.js'
import type { ComponentDescription } from '../models/model-description.js'

/** Seconds that one operation or byte takes. */
export interface Rates {
  /** By kind of layer and type, such as 'linear int8'. */
  operations: ReadonlyMap<string, number>
  /** Of activations, in all layers that multiply nothing. */
  bytes: number
  /** Of weights that are read whenever they are needed. */
  streamed: number
  /** Seconds that a call takes besides its layers. */
  call: number
}

/** What a prediction is asked for: rows, and height and width of the latents. */
export interface LatentSize {
  n: number
  h: number
  w: number
}

/** Up to so many parameters and operations, a model itself is measured, and otherwise the upper part of it. */
const MAX_PARAMETERS = 60e6
const MAX_OPERATIONS = 20e9

/**
 * Of the part of a large model: levels, their channels at most, and the sides of its latents. A UNet's is that of its first
 * level with attention, which computes short sequences at half of its speed.
 */
const LEVELS = 2
const MAX_CHANNELS = 640
const MAX_CONTEXT = 2048
const UNET_SIDE = 32
const VAE_SIDE = 64

const CONTEXT_LENGTH = 77

/** The first run finds no memory in the caches, and the fastest counts: small models run more often. */
const MIN_RUNS = 2
const MAX_RUNS = 5
const ENOUGH_SECONDS = 0.3

const measured = new Map<string, Rates>()
/** One measurement at a time: the profile is that of the whole process. */
const lock = new FairLock()

/** The rates of a UNet's layers, whose whole work at `size` is `work`. */
export async function unetRates(
  { config, source }: ComponentDescription<UnetConfig>,
  size: LatentSize,
  work: readonly ProfileRow[],
  signal: AbortSignal | undefined,
): Promise<Rates> {
  // Conditions that are embedded with the timestep are a few rows of little work.
  const { added: _a, guidanceWidth: _g, classEmbedding: _c, ...plain } = config
  const whole = isSmall(source, work)
  const part = whole ? plain : upperPart(plain)
  const side = UNET_SIDE * 2 ** firstAttention(part)
  const { n, h, w } = whole ? size : { n: 2, h: side, w: side }
  const contextLength = part.contextWidth > 0 ? CONTEXT_LENGTH : 0
  const timestepCond = part.kBlocks && new Float32Array(n * part.kBlocks.conditionWidth)
  const key = JSON.stringify(['unet', part, n, h, w])
  return ratesOf(key, source, 'unet', part, signal, async (zeros) => {
    const model = await cancellable(signal, (cancel) => native().loadUnet(part, zeros, cancel))
    const call = {
      latents: new Float32Array(n * part.inChannels * h * w),
      ...{ n, h, w },
      conditioning: {
        timesteps: new Float32Array(n).fill(500),
        context: new Float32Array(n * contextLength * part.contextWidth),
        contextLength,
        ...(timestepCond && { timestepCond }),
      },
      options: { tokenMerging: 0 },
    }
    return { model, run: () => cancellable(signal, (cancel) => model.predict(call, cancel)) }
  })
}

/** The rates of an autoencoder's decoder. */
export async function vaeRates(
  { config, source }: ComponentDescription<VaeConfig>,
  size: { h: number; w: number },
  work: readonly ProfileRow[],
  signal: AbortSignal | undefined,
): Promise<Rates> {
  const whole = isSmall(source, work)
  // The highest and the lowest level: those between them multiply like one or the other.
  const ends = [...new Set([config.blockChannels[0], config.blockChannels.at(-1)!])]
  const part: VaeConfig = whole
    ? config
    : { ...config, ...channelsOf({ ...config, blockChannels: ends }), layersPerBlock: 1 }
  const { h, w } = whole ? size : { h: VAE_SIDE, w: VAE_SIDE }
  const key = JSON.stringify(['vae', part, h, w])
  return ratesOf(key, source, 'vae', part, signal, async (zeros) => {
    const model = await cancellable(signal, (cancel) => native().loadVae(part, zeros, cancel))
    const latents = new Float32Array(part.latentChannels * h * w)
    return {
      model,
      run: () => cancellable(signal, (cancel) => model.decode(latents, 1, h, w, null, cancel)),
    }
  })
}

function isSmall({ tensors }: ModelSource, work: readonly ProfileRow[]): boolean {
  const parameters = tensors.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0)
  const operations = work.reduce((sum, row) => sum + row.operations, 0)
  return parameters <= MAX_PARAMETERS && operations <= MAX_OPERATIONS
}

/** The first level with attention, or 0. */
function firstAttention({ downTransformerDepth }: UnetConfig): number {
  return Math.max(
    downTransformerDepth.findIndex((depth) => [depth].flat().some((blocks) => blocks > 0)),
    0,
  )
}

/** The first levels of a UNet with one layer each, which has every kind of layer that the UNet has. */
function upperPart(config: UnetConfig): UnetConfig {
  if (config.kBlocks) return upperKPart(config)
  const attends = [config.downTransformerDepth, config.upTransformerDepth].some((levels) =>
    levels.some((depth) => [depth].flat().some((blocks) => blocks > 0)),
  )
  const levels = Math.min(LEVELS, config.blockChannels.length)
  const each = <T>(value: T): T[] => new Array<T>(levels).fill(value)
  const depths = (given: UnetConfig['downTransformerDepth']): number[] =>
    given.slice(0, levels).map((depth) => Math.min(1, ...[depth].flat()))
  const down = depths(config.downTransformerDepth)
  if (attends && !down.some((depth) => depth > 0)) down[levels - 1] = 1
  const { blockChannels, normGroups } = channelsOf(config)
  const heads = blockChannels.map((channels, i) => {
    const wide = (channels * config.heads[i]) / config.blockChannels[i]
    return Number.isInteger(wide) && channels % wide === 0 ? wide : 1
  })
  return {
    ...config,
    ...{ blockChannels, normGroups, heads },
    contextWidth: Math.min(config.contextWidth, MAX_CONTEXT),
    layersPerBlock: each(1),
    downTransformerDepth: down,
    upTransformerDepth: down,
    midTransformerDepth: config.midTransformerDepth < 0 ? -1 : attends ? 1 : 0,
    ...(config.onlyCrossAttention && { onlyCrossAttention: config.onlyCrossAttention.slice(0, levels) }),
  }
}

/** The same of one with K-blocks, of which the last level always attends. */
function upperKPart(config: UnetConfig): UnetConfig {
  const { blockChannels, downTransformerDepth } = config
  const depth = [...downTransformerDepth.slice(0, LEVELS - 1), 1]
  return {
    ...config,
    blockChannels: blockChannels.slice(0, LEVELS),
    layersPerBlock: new Array<number>(LEVELS).fill(1),
    downTransformerDepth: depth,
    upTransformerDepth: depth,
    heads: config.heads.slice(0, LEVELS),
  }
}

/** The channels of the first levels, in groups that they can be divided into. */
function channelsOf({ blockChannels, normGroups }: Pick<UnetConfig, 'blockChannels' | 'normGroups'>) {
  const capped = blockChannels.slice(0, LEVELS).map((channels) => Math.min(channels, MAX_CHANNELS))
  const divides = capped.every((channels) => channels % normGroups === 0)
  return { blockChannels: capped, normGroups: divides ? normGroups : 1 }
}

interface Measurable {
  model: { dispose(): Freed }
  run: () => Promise<unknown>
}

async function ratesOf<Kind extends 'unet' | 'vae'>(
  part: string,
  source: ModelSource,
  kind: Kind,
  config: Kind extends 'unet' ? UnetConfig : VaeConfig,
  signal: AbortSignal | undefined,
  load: (zeros: ModelSource) => Promise<Measurable>,
): Promise<Rates> {
  const tensors = zerosLike(source, native().requiredTensors<'unet' | 'vae'>(kind, config))
  const { kernel, threads } = native().cpu()
  const types = tensors.map(({ type }) => type).join()
  const key = [part, kernel, threads, source.precision, source.residency, source.kernels, types].join(';')
  const release = await lock.acquire(signal)
  try {
    throwIfAborted(signal)
    const known = measured.get(key)
    if (known) return known
    const { precision, residency, kernels } = source
    const measurable = await load({ files: [], tensors, zeros: true, precision, residency, kernels })
    try {
      let fastest = { seconds: Infinity, rows: [] as ProfileRow[] }
      for (let i = 0, spent = 0; i < MAX_RUNS && (i < MIN_RUNS || spent < ENOUGH_SECONDS); i++) {
        const begin = performance.now()
        const rows = await profiled(measurable.run)
        const seconds = (performance.now() - begin) / 1000
        if (seconds < fastest.seconds) fastest = { seconds, rows }
        spent += seconds
      }
      const rates = ratesFrom(fastest.rows, fastest.seconds)
      measured.set(key, rates)
      return rates
    } finally {
      await measurable.model.dispose()
    }
  } finally {
    release()
  }
}

async function profiled(run: () => Promise<unknown>): Promise<ProfileRow[]> {
  native().profile(true)
  try {
    await run()
  } catch (error) {
    native().profile(false)
    throw error
  }
  return native().profile(false)
}

export const nameOf = ({ kind, compute }: ProfileRow) => `${kind} ${compute}`

/** The row of weights that are not kept, and that of everything that multiplies nothing. */
export const STREAMED = 'streamed weights'
const OTHER = 'everything else'

/** Bytes of activations in all rows: the arena's, without the weights that are read into it. */
export function activationBytes(rows: readonly ProfileRow[]): number {
  const bytes = (kind: string) =>
    rows.filter((row) => row.kind === kind).reduce((sum, row) => sum + row.bytes, 0)
  return Math.max(bytes(OTHER) - bytes(STREAMED), 0)
}

/** @param elapsed seconds of the whole call */
function ratesFrom(rows: readonly ProfileRow[], elapsed: number): Rates {
  const products = rows.filter((row) => row.operations > 0)
  const streams = rows.find(({ kind }) => kind === STREAMED)
  const others = rows.filter((row) => row.operations === 0 && row !== streams)
  const seconds = others.reduce((sum, row) => sum + row.seconds, 0)
  return {
    operations: new Map(products.map((row) => [nameOf(row), row.seconds / row.operations])),
    bytes: seconds / Math.max(activationBytes(rows), 1),
    call: Math.max(elapsed - rows.reduce((sum, row) => sum + row.seconds, 0), 0),
    streamed: streams ? streams.seconds / Math.max(streams.bytes, 1) : 0,
  }
}

/** Tensors of these shapes with the types that the model has under the same names. */
function zerosLike(
  { tensors }: ModelSource,
  required: readonly { name: string; shape: number[] }[],
): TensorEntry[] {
  const stored = new Map(tensors.map((tensor) => [tensor.name, tensor]))
  // Names of the part that the model does not have: the most common type.
  const usual = [...stored.values()].find(({ shape }) => shape.length > 1)
  return required.map(({ name, shape }) => {
    const like = stored.get(name) ?? (shape.length > 1 ? usual : undefined)
    const elements = shape.reduce((product, length) => product * length, 1)
    const type = like && fits(like.type, elements) ? like.type : 'f16'
    const channelsLast = shape.length === 4 && like?.channelsLast === true
    return { name, shape, type, ...(channelsLast && { channelsLast }), file: 0, offset: 0, bytes: 0 }
  })
}

/** Whether so many elements are whole blocks of the type. */
function fits(type: TensorType, elements: number): boolean {
  if (/_k$/.test(type)) return elements % 256 === 0
  return !/^q/.test(type) || elements % 32 === 0
}
