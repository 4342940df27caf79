import { shorten } from '../../quote.js'
import type { AddedToken, SchedulerOptions } from '../../types.js'
import type {
  ClassEmbedding,
  ControlNetConfig,
  TextEncoderConfig,
  UnetConfig,
  VaeConfig,
} from '../../native.js'
import { ConfigReader, isInteger } from './config-reader.js'
import { MAX_SIDE } from './image-encoder.js'
import { badFormat, unsupported } from '../formats/fail.js'
import { readKBlocks } from './latent-upscaler.js'
import { limits, MAX_SAMPLE_SIZE } from './limits.js'
import type {
  ModelDescription,
  ScheduleDescription,
  TextEncoderDescription,
  TokenizerDescription,
  UnclipDescription,
} from '../model-description.js'
import {
  ALGORITHM_TYPES,
  BETA_SCHEDULES,
  METHOD_OPTIONS,
  PREDICTION_TYPES,
  readBetas,
  TIMESTEP_SPACINGS,
} from './schedule.js'
import type { UnclipFacts } from './unclip.js'

/**
 * node-diffusion's own single files store what the tensors do not tell. This metadata key (in safetensors under
 * `__metadata__`) is a string with the JSON of a ModelDescription without path, format and sources. Tensors have
 * canonical names with the prefixes `unet.`, `vae.` and `text_encoder.`, but other names work as well. The tensors
 * decide which components the file contains.
 */
export const CONFIG_KEY = 'node_diffusion.config'
const VERSION = 1
/** No mean and no deviation of an embedding's numbers is larger. */
const MOST = 1e6

export interface StoredConfig {
  architecture: string
  imageSize: number
  schedule: ScheduleDescription
  textEncoders: Omit<TextEncoderDescription, 'source'>[]
  zeroesEmptyNegative?: boolean
  lowResolution?: NonNullable<ModelDescription['lowResolution']>
  assumedPrediction?: NonNullable<ModelDescription['assumedPrediction']>
  unclip?: UnclipFacts
  unet?: { config: UnetConfig }
  vae?: { config: VaeConfig; scalingFactor: number }
  controlNet?: { config: ControlNetConfig; bgr?: boolean }
  trainedWords?: string[]
  guidanceScale?: number
  warnings?: string[]
}

/** The text for CONFIG_KEY. */
export function writeStoredConfig(model: ModelDescription): string {
  const {
    architecture,
    imageSize,
    schedule,
    textEncoders,
    unet,
    vae,
    controlNet,
    trainedWords,
    guidanceScale,
  } = model
  return JSON.stringify({
    version: VERSION,
    architecture,
    imageSize,
    schedule,
    ...Object.fromEntries(
      textEncoders.flatMap(({ config, skip, finalNorm, tokenizer }, i) => [
        [numbered('textEncoder', i), { config, skip, ...(finalNorm === false && { finalNorm }) }],
        [numbered('tokenizer', i), tokenizer],
      ]),
    ),
    ...(unet && { unet: { config: unet.config } }),
    ...(vae && { vae: { config: vae.config, scalingFactor: vae.scalingFactor } }),
    ...(controlNet && { controlNet: { config: controlNet.config, ...(controlNet.bgr && { bgr: true }) } }),
    ...(model.zeroesEmptyNegative && { zeroesEmptyNegative: true }),
    ...(model.lowResolution && { lowResolution: model.lowResolution }),
    ...(model.assumedPrediction && { assumedPrediction: model.assumedPrediction }),
    ...(model.unclip && { unclip: withoutSource(model.unclip) }),
    ...(trainedWords && { trainedWords }),
    ...(guidanceScale !== undefined && { guidanceScale }),
    ...(model.warnings && { warnings: model.warnings }),
  })
}

/** Reads and checks the metadata; undefined if the file has none. */
export async function readStoredConfig(
  path: string,
  metadata: Map<string, unknown>,
): Promise<StoredConfig | undefined> {
  const text = metadata.get(CONFIG_KEY)
  if (text === undefined) return undefined
  if (typeof text !== 'string') throw badFormat(path, `expected a string for metadata ${CONFIG_KEY}`)
  const c = await ConfigReader.parse(path, text, CONFIG_KEY)
  const version = c.integer('version', undefined, 1, 1 << 30)
  if (version !== VERSION) {
    throw unsupported(
      path,
      `expected version ${VERSION} of ${CONFIG_KEY}, found ${version}: written by a newer node-diffusion`,
    )
  }
  const stored: StoredConfig = {
    architecture: c.string('architecture'),
    imageSize: c.integer('imageSize', undefined, 1, MAX_SAMPLE_SIZE),
    schedule: readSchedule(c.child('schedule')),
    textEncoders: [],
  }
  for (let i = 0; c.has(numbered('textEncoder', i)); i++) {
    const key = numbered('tokenizer', i)
    const tokenizer = c.has(key) ? readTokenizerTexts(c.child(key)) : null
    stored.textEncoders.push({ ...readText(c.child(numbered('textEncoder', i))), tokenizer })
  }
  if (c.has('unet')) stored.unet = { config: readUnet(c.child('unet').child('config')) }
  if (c.has('controlNet')) stored.controlNet = readControlNet(c.child('controlNet'))
  if (c.has('vae')) stored.vae = readVae(c.child('vae'))
  if (c.has('zeroesEmptyNegative')) stored.zeroesEmptyNegative = c.boolean('zeroesEmptyNegative')
  if (c.has('lowResolution')) stored.lowResolution = readLowResolution(c.child('lowResolution'))
  if (c.has('assumedPrediction')) {
    const sizes = c.child('assumedPrediction').child('imageSizes')
    const size = (key: string) => sizes.integer(key, undefined, 1, MAX_SAMPLE_SIZE)
    stored.assumedPrediction = {
      imageSizes: { epsilon: size('epsilon'), v_prediction: size('v_prediction') },
    }
  }
  if (c.has('unclip')) stored.unclip = readUnclip(c.child('unclip'))
  if (c.has('trainedWords')) stored.trainedWords = c.strings('trainedWords', [])
  if (c.has('warnings'))
    stored.warnings = c
      .strings('warnings', [])
      .slice(0, 20)
      .map((text) => shorten(text, 300))
  if (c.has('guidanceScale')) stored.guidanceScale = c.number('guidanceScale', undefined, 0, 100)
  return stored
}

/** The key of the first text encoder has no number and that of the second ends in 2, as in diffusers' folders. */
function numbered(key: string, index: number): string {
  return index === 0 ? key : `${key}${index + 1}`
}

function readUnet(c: ConfigReader): UnetConfig {
  const blockChannels = c.integers('blockChannels', undefined, 1, limits().channels)
  const levels = blockChannels.length
  if (levels > limits().levels) throw c.fail('blockChannels', `list of at most ${limits().levels} levels`)
  return {
    inChannels: c.integer('inChannels', undefined, 1, limits().channels),
    outChannels: c.integer('outChannels', undefined, 1, limits().channels),
    blockChannels,
    layersPerBlock: c.integers('layersPerBlock', undefined, 1, limits().layersPerLevel, levels),
    downTransformerDepth: readDepths(c, 'downTransformerDepth', levels),
    upTransformerDepth: readDepths(c, 'upTransformerDepth', levels),
    midTransformerDepth: c.integer('midTransformerDepth', undefined, -1, limits().transformerDepth),
    heads: c.integers('heads', undefined, 1, limits().channels, levels),
    ...(c.has('onlyCrossAttention') && {
      onlyCrossAttention: c.integers('onlyCrossAttention', undefined, 0, 1, levels),
    }),
    contextWidth: c.integer('contextWidth', undefined, 1, limits().channels),
    normGroups: c.integer('normGroups', undefined, 1, limits().channels),
    normEps: c.number('normEps', undefined, 0, 1),
    flipSinToCos: c.boolean('flipSinToCos'),
    freqShift: c.number('freqShift', undefined, -1e6, 1e6),
    ...(c.has('added') && { added: readAdded(c.child('added')) }),
    ...(c.has('guidanceWidth') && {
      guidanceWidth: c.integer('guidanceWidth', undefined, 4, limits().channels),
    }),
    ...(c.has('classEmbedding') && { classEmbedding: readClassEmbedding(c.child('classEmbedding')) }),
    ...(c.has('kBlocks') && { kBlocks: readKBlocks(c.child('kBlocks')) }),
  }
}

function readControlNet(outer: ConfigReader): NonNullable<StoredConfig['controlNet']> {
  const c = outer.child('config')
  const imageWidths = c.integers('imageWidths', undefined, 1, limits().channels)
  if (imageWidths.length > limits().levels)
    throw c.fail('imageWidths', `list of at most ${limits().levels} widths`)
  return {
    config: {
      unet: readUnet(c.child('unet')),
      imageChannels: c.integer('imageChannels', undefined, 1, limits().channels),
      imageWidths,
      ...(c.has('union') && { union: readUnion(c.child('union')) }),
    },
    ...(outer.get('bgr') === true && { bgr: true }),
  }
}

function readUnion(c: ConfigReader): NonNullable<ControlNetConfig['union']> {
  return {
    types: c.integer('types', undefined, 1, limits().controlTypes),
    layers: c.integer('layers', undefined, 0, limits().textLayers),
  }
}

/** For each level a number, or a list with one for each of its layers. */
function readDepths(c: ConfigReader, key: string, levels: number): (number | number[])[] {
  const value = c.get(key)
  const most = limits().transformerDepth
  const valid = (depth: unknown) =>
    Array.isArray(depth)
      ? depth.length <= limits().layersPerLevel + 1 && depth.every((d) => isInteger(d, 0, most))
      : isInteger(depth, 0, most)
  if (Array.isArray(value) && value.length === levels && value.every(valid))
    return value as (number | number[])[]
  throw c.fail(key, `list of ${levels} integers between 0 and ${most}, or lists of them,`)
}

function readAdded(c: ConfigReader): NonNullable<UnetConfig['added']> {
  return {
    width: c.integer('width', undefined, 1, limits().channels),
    timeWidth: c.integer('timeWidth', undefined, 1, limits().channels),
  }
}

function readClassEmbedding(c: ConfigReader): ClassEmbedding {
  const kind = c.choice('kind', ['table', 'timestep', 'projection'])
  if (kind === 'table') return { kind, count: c.integer('count', undefined, 1, limits().vocabulary) }
  if (kind === 'timestep') return { kind }
  return { kind, width: c.integer('width', undefined, 1, limits().channels) }
}

function readVae(outer: ConfigReader): { config: VaeConfig; scalingFactor: number } {
  const c = outer.child('config')
  const blockChannels = c.integers('blockChannels', undefined, 1, limits().channels)
  if (blockChannels.length > limits().levels)
    throw c.fail('blockChannels', `list of at most ${limits().levels} levels`)
  const config: VaeConfig = {
    inChannels: c.integer('inChannels', undefined, 1, limits().channels),
    outChannels: c.integer('outChannels', undefined, 1, limits().channels),
    latentChannels: c.integer('latentChannels', undefined, 1, limits().channels),
    blockChannels,
    layersPerBlock: c.integer('layersPerBlock', undefined, 1, limits().layersPerLevel),
    normGroups: c.integer('normGroups', undefined, 1, limits().channels),
    midAttention: c.boolean('midAttention'),
    quantConv: c.boolean('quantConv'),
    postQuantConv: c.boolean('postQuantConv'),
  }
  if (c.has('codebook')) {
    const book = c.child('codebook')
    config.codebook = {
      size: book.integer('size', undefined, 1, limits().vocabulary),
      width: book.integer('width', undefined, 1, limits().channels),
    }
  }
  return {
    config,
    scalingFactor: outer.number('scalingFactor', undefined, 1e-6, 1e6),
  }
}

function readText(outer: ConfigReader): { config: TextEncoderConfig; skip: number; finalNorm?: boolean } {
  const c = outer.child('config')
  const config: TextEncoderConfig = {
    vocabSize: c.integer('vocabSize', undefined, 1, limits().vocabulary),
    layers: c.integer('layers', undefined, 1, limits().textLayers),
    maxPositions: c.integer('maxPositions', undefined, 1, limits().positions),
    ...readClip(c),
    ...(c.has('projectionWidth') && {
      projectionWidth: c.integer('projectionWidth', undefined, 1, limits().channels),
    }),
  }
  return {
    config,
    skip: outer.integer('skip', undefined, 0, config.layers),
    ...(outer.has('finalNorm') && { finalNorm: outer.boolean('finalNorm') }),
  }
}

/** What CLIP's text and image encoder have in common. */
function readClip(c: ConfigReader) {
  return {
    width: c.integer('width', undefined, 1, limits().channels),
    heads: c.integer('heads', undefined, 1, limits().channels),
    intermediate: c.integer('intermediate', undefined, 1, limits().feedForward),
    activation: c.choice('activation', ['quick_gelu', 'gelu']),
    layerNormEps: c.number('layerNormEps', undefined, 0, 1),
    ...(c.has('projectionTransposed') && { projectionTransposed: c.boolean('projectionTransposed') }),
  }
}

function readSchedule(c: ConfigReader): ScheduleDescription {
  const trainTimesteps = c.integer('trainTimesteps', undefined, 1, 100_000)
  const schedule: ScheduleDescription = {
    trainTimesteps,
    betaStart: c.number('betaStart', undefined, 0, 1),
    betaEnd: c.number('betaEnd', undefined, 0, 1),
    betaSchedule: c.choice('betaSchedule', BETA_SCHEDULES),
    predictionType: c.choice('predictionType', PREDICTION_TYPES),
    stepsOffset: c.integer('stepsOffset', undefined, 0, trainTimesteps),
    setAlphaToOne: c.boolean('setAlphaToOne'),
    rescaleBetasZeroSnr: c.boolean('rescaleBetasZeroSnr'),
    clipSample: c.boolean('clipSample'),
  }
  if (c.has('className')) schedule.className = c.string('className')
  if (c.has('timestepSpacing')) schedule.timestepSpacing = c.choice('timestepSpacing', TIMESTEP_SPACINGS)
  if (c.has('algorithmType')) schedule.algorithmType = c.choice('algorithmType', ALGORITHM_TYPES)
  if (c.has('methodOptions')) schedule.methodOptions = readMethodOptions(c.child('methodOptions'))
  if (c.has('trainedBetas')) schedule.trainedBetas = readBetas(c, 'trainedBetas', trainTimesteps)
  return schedule
}

function readLowResolution(c: ConfigReader): NonNullable<ModelDescription['lowResolution']> {
  const schedule = readSchedule(c.child('schedule'))
  return { schedule, maxNoiseLevel: c.integer('maxNoiseLevel', undefined, 0, schedule.trainTimesteps - 1) }
}

function readUnclip(c: ConfigReader): UnclipFacts {
  return {
    ...(c.has('statistics') && { statistics: readStatistics(c.child('statistics')) }),
    schedule: readSchedule(c.child('schedule')),
    ...(c.has('imageEncoder') && { imageEncoder: readImageEncoder(c.child('imageEncoder')) }),
  }
}

function readStatistics(c: ConfigReader): NonNullable<UnclipFacts['statistics']> {
  const width = limits().channels
  return {
    mean: c.numbers('mean', -MOST, MOST, 1, width),
    deviation: c.numbers('deviation', 1 / MOST, MOST, 1, width),
  }
}

function readImageEncoder(outer: ConfigReader): NonNullable<UnclipFacts['imageEncoder']> {
  const c = outer.child('config')
  const statistics = outer.child('statistics')
  return {
    config: {
      imageSize: c.integer('imageSize', undefined, 1, MAX_SIDE),
      patchSize: c.integer('patchSize', undefined, 1, MAX_SIDE),
      channels: c.integer('channels', undefined, 3, 3),
      layers: c.integer('layers', undefined, 0, limits().textLayers),
      ...readClip(c),
      projectionWidth: c.integer('projectionWidth', undefined, 1, limits().channels),
    },
    statistics: {
      mean: statistics.numbers('mean', 0, 1, 3, 3),
      deviation: statistics.numbers('deviation', 1e-3, 1, 3, 3),
    },
  }
}

function withoutSource({ imageEncoder, ...facts }: UnclipDescription): UnclipFacts {
  if (!imageEncoder) return facts
  const { config, statistics } = imageEncoder
  return { ...facts, imageEncoder: { config, statistics } }
}

/** Those that scheduleFromDiffusers() gives. */
function readMethodOptions(c: ConfigReader): SchedulerOptions {
  const options: SchedulerOptions = {}
  const { sigmas, finalSigmasType, solverType, varianceType } = METHOD_OPTIONS
  if (c.has('sigmas')) options.sigmas = c.choice('sigmas', sigmas)
  if (c.has('finalSigmasType')) options.finalSigmasType = c.choice('finalSigmasType', finalSigmasType)
  if (c.has('order')) options.order = c.integer('order', undefined, 1, 3)
  if (c.has('solverType')) options.solverType = c.choice('solverType', solverType)
  if (c.has('varianceType')) options.varianceType = c.choice('varianceType', varianceType)
  for (const key of ['lowerOrderFinal', 'eulerAtFinal', 'skipPrkSteps'] as const)
    if (c.has(key)) options[key] = c.boolean(key)
  const key = 'originalInferenceSteps'
  if (c.has(key)) options[key] = c.integer(key, undefined, 1, 1000)
  return options
}

function readTokenizerTexts(c: ConfigReader): TokenizerDescription {
  const tokenizer: TokenizerDescription = {
    maxLength: c.integer('maxLength', undefined, 3, limits().positions),
    padToken: c.string('padToken'),
  }
  for (const key of ['vocab', 'merges', 'tokenizerJson'] as const)
    if (c.has(key)) tokenizer[key] = c.string(key)
  const added = c.get('addedTokens') ?? []
  if (!Array.isArray(added) || added.length > 16_384)
    throw c.fail('addedTokens', 'list of at most 16384 tokens')
  if (added.length > 0) tokenizer.addedTokens = added.map((token, i) => readAddedToken(c, token, i))
  return tokenizer
}

function readAddedToken(c: ConfigReader, value: unknown, index: number): AddedToken {
  const token = ConfigReader.of(c.path, value, `${c.name('addedTokens')}[${index}]`)
  const content = token.string('content')
  if (content === '' || content.length > 1024) throw token.fail('content', 'token of 1 to 1024 characters')
  return {
    content,
    id: token.integer('id', undefined, 0, (1 << 24) - 1),
    ...(token.get('normalized') === false && { normalized: false }),
    ...(token.get('lstrip') === true && { lstrip: true }),
    ...(token.get('rstrip') === true && { rstrip: true }),
  }
}
