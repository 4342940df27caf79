import type { TextEncoderConfig, UnetConfig, VaeConfig } from '../native.js'
import { ConfigReader } from './config-reader.js'
import { badFormat, unsupported } from './fail.js'
import { LIMITS, textMismatch, unetMismatch, vaeMismatch } from './limits.js'
import type { ModelDescription, ScheduleDescription, TokenizerDescription } from './model-description.js'
import { BETA_SCHEDULES, PREDICTION_TYPES, readBetas, TIMESTEP_SPACINGS } from './schedule.js'

/**
 * node-diffusion's own single files say what no tensor can: this metadata key (a string; in safetensors under
 * `__metadata__`) holds JSON of a ModelDescription without path, format and sources. Its tensors are named canonically
 * behind `unet.`, `vae.` or `text_encoder.`; any other naming that this package reads works too. A component is there
 * when its tensors are; one that only one of the two mentions is an error or not read.
 */
export const CONFIG_KEY = 'node_diffusion.config'
const VERSION = 1

export interface StoredConfig {
  architecture: string
  imageSize: number
  schedule: ScheduleDescription
  tokenizer: TokenizerDescription | null
  textEncoder?: { config: TextEncoderConfig; skip: number }
  unet?: { config: UnetConfig }
  vae?: { config: VaeConfig; scalingFactor: number }
  words?: string[]
  guidanceScale?: number
}

/** The text for CONFIG_KEY. */
export function writeStoredConfig(model: ModelDescription): string {
  const { architecture, imageSize, schedule, tokenizer, textEncoder, unet, vae, words, guidanceScale } = model
  return JSON.stringify({
    version: VERSION,
    architecture,
    imageSize,
    schedule,
    tokenizer,
    ...(textEncoder && { textEncoder: { config: textEncoder.config, skip: textEncoder.skip } }),
    ...(unet && { unet: { config: unet.config } }),
    ...(vae && { vae: { config: vae.config, scalingFactor: vae.scalingFactor } }),
    ...(words && { words }),
    ...(guidanceScale !== undefined && { guidanceScale }),
  })
}

/** Every field checked: the file may come from anywhere. undefined: the file has no such metadata. */
export function readStoredConfig(path: string, metadata: Map<string, unknown>): StoredConfig | undefined {
  const text = metadata.get(CONFIG_KEY)
  if (text === undefined) return undefined
  if (typeof text !== 'string') throw badFormat(path, `expected a string for metadata ${CONFIG_KEY}`)
  const c = ConfigReader.parse(path, text, CONFIG_KEY)
  const version = c.integer('version', undefined, 1, 1 << 30)
  if (version !== VERSION) {
    throw unsupported(
      path,
      `expected version ${VERSION} of ${CONFIG_KEY}, found ${version}: written by a newer node-diffusion`,
    )
  }
  const stored: StoredConfig = {
    architecture: c.string('architecture'),
    imageSize: c.integer('imageSize', undefined, 1, 65_536),
    schedule: readSchedule(c.child('schedule')),
    tokenizer: c.has('tokenizer') ? readTokenizerTexts(c.child('tokenizer')) : null,
  }
  if (c.has('textEncoder')) stored.textEncoder = readText(c.child('textEncoder'))
  if (c.has('unet')) stored.unet = { config: readUnet(c.child('unet').child('config')) }
  if (c.has('vae')) stored.vae = readVae(c.child('vae'))
  if (c.has('words')) stored.words = c.strings('words', [])
  if (c.has('guidanceScale')) stored.guidanceScale = c.number('guidanceScale', undefined, 0, 100)
  return stored
}

function readUnet(c: ConfigReader): UnetConfig {
  const blockChannels = c.integers('blockChannels', undefined, 1, LIMITS.channels)
  const levels = blockChannels.length
  if (levels > LIMITS.levels) throw c.fail('blockChannels', `list of at most ${LIMITS.levels} levels`)
  const config: UnetConfig = {
    inChannels: c.integer('inChannels', undefined, 1, LIMITS.channels),
    outChannels: c.integer('outChannels', undefined, 1, LIMITS.channels),
    blockChannels,
    layersPerBlock: c.integers('layersPerBlock', undefined, 1, LIMITS.layers, levels),
    downTransformerDepth: c.integers('downTransformerDepth', undefined, 0, LIMITS.transformerDepth, levels),
    upTransformerDepth: c.integers('upTransformerDepth', undefined, 0, LIMITS.transformerDepth, levels),
    midTransformerDepth: c.integer('midTransformerDepth', undefined, -1, LIMITS.transformerDepth),
    heads: c.integers('heads', undefined, 1, LIMITS.channels, levels),
    contextWidth: c.integer('contextWidth', undefined, 1, LIMITS.channels),
    normGroups: c.integer('normGroups', undefined, 1, LIMITS.channels),
    normEps: c.number('normEps', undefined, 0, 1),
    linearProjection: c.boolean('linearProjection'),
    flipSinToCos: c.boolean('flipSinToCos'),
    freqShift: c.number('freqShift', undefined, -1e6, 1e6),
  }
  return fitting(c, config, unetMismatch)
}

function readVae(outer: ConfigReader): { config: VaeConfig; scalingFactor: number } {
  const c = outer.child('config')
  const blockChannels = c.integers('blockChannels', undefined, 1, LIMITS.channels)
  if (blockChannels.length > LIMITS.levels)
    throw c.fail('blockChannels', `list of at most ${LIMITS.levels} levels`)
  const config: VaeConfig = {
    inChannels: c.integer('inChannels', undefined, 1, LIMITS.channels),
    outChannels: c.integer('outChannels', undefined, 1, LIMITS.channels),
    latentChannels: c.integer('latentChannels', undefined, 1, LIMITS.channels),
    blockChannels,
    layersPerBlock: c.integer('layersPerBlock', undefined, 1, LIMITS.layers),
    normGroups: c.integer('normGroups', undefined, 1, LIMITS.channels),
    midAttention: c.boolean('midAttention'),
    quantConv: c.boolean('quantConv'),
    postQuantConv: c.boolean('postQuantConv'),
  }
  if (c.has('codebook')) {
    const book = c.child('codebook')
    config.codebook = {
      size: book.integer('size', undefined, 1, LIMITS.vocabulary),
      width: book.integer('width', undefined, 1, LIMITS.channels),
    }
  }
  return {
    config: fitting(c, config, vaeMismatch),
    scalingFactor: outer.number('scalingFactor', undefined, 1e-6, 1e6),
  }
}

function readText(outer: ConfigReader): { config: TextEncoderConfig; skip: number } {
  const c = outer.child('config')
  const config: TextEncoderConfig = {
    vocabSize: c.integer('vocabSize', undefined, 1, LIMITS.vocabulary),
    width: c.integer('width', undefined, 1, LIMITS.channels),
    layers: c.integer('layers', undefined, 1, LIMITS.textLayers),
    heads: c.integer('heads', undefined, 1, LIMITS.channels),
    intermediate: c.integer('intermediate', undefined, 1, LIMITS.channels),
    maxPositions: c.integer('maxPositions', undefined, 1, LIMITS.positions),
    activation: c.choice('activation', ['quick_gelu', 'gelu']),
    layerNormEps: c.number('layerNormEps', undefined, 0, 1),
  }
  return {
    config: fitting(c, config, textMismatch),
    skip: outer.integer('skip', undefined, 0, config.layers),
  }
}

function fitting<Config>(
  c: ConfigReader,
  config: Config,
  mismatch: (config: Config) => string | undefined,
): Config {
  const problem = mismatch(config)
  if (problem) throw badFormat(c.path, `${CONFIG_KEY}: ${problem}`)
  return config
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
  if (c.has('trainedBetas')) schedule.trainedBetas = readBetas(c, 'trainedBetas', trainTimesteps)
  return schedule
}

function readTokenizerTexts(c: ConfigReader): TokenizerDescription {
  const tokenizer: TokenizerDescription = {
    maxLength: c.integer('maxLength', undefined, 3, LIMITS.positions),
    padToken: c.string('padToken'),
  }
  for (const key of ['vocab', 'merges', 'tokenizerJson'] as const)
    if (c.has(key)) tokenizer[key] = c.string(key)
  return tokenizer
}
