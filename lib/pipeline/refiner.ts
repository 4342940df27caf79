/** A second model that takes the last steps of a run over, on the same latents: SDXL's refiner. */
import { basename } from 'node:path'
import { DiffusionError } from '../errors.js'
import { openModel, type ModelDescription, type TextEncoderDescription } from '../models/index.js'
import type { Placement } from '../device/index.js'
import type { Tokenizer } from '../prompt/tokenizer.js'
import type { Scheduler } from '../types.js'
import { loadTextEncoders, loadTokenizers } from './load-text.js'
import { checkConditions, timeIdCountOf } from './supported-conditions.js'
import type { TextEncoder } from './text-encoder.js'
import type { TimeIdCount } from './time-ids.js'
import { Unet } from './unet.js'

/** A refiner in memory. The model's own autoencoder decodes its latents. */
export interface Refiner {
  name: string
  /** Its own, or the model's where its files have none. */
  textEncoders: readonly TextEncoder[]
  tokenizers: readonly Tokenizer[]
  unet: Unet
  timeIdCount?: TimeIdCount
  zeroesEmptyNegative?: boolean
}

/** A refiner, as its files describe it. */
export interface RefinerDescription {
  /** With the text encoders that it uses. */
  model: ModelDescription & Required<Pick<ModelDescription, 'unet'>>
  /** How many of the model's last text encoders it uses, as its files have none; 0: it has its own. */
  borrowed: number
}

/**
 * Opens the files of a refiner for `base`. Its autoencoder is not used. If it has no text encoder, as a GGUF file of a UNet
 * alone, it uses those of `base` that fit: the last one, or all of them.
 *
 * @param path a local file or folder
 * @throws {DiffusionError} as openModel(); UNSUPPORTED_MODEL: the file does not go with `base`
 */
export async function openRefiner(path: string, base: ModelDescription): Promise<RefinerDescription> {
  const opened = await openModel(path)
  const fail = (message: string) => new DiffusionError('UNSUPPORTED_MODEL', `${path}: ${message}`)
  const { unet } = opened
  if (!unet) throw fail('expected a refiner, but it has no UNet')
  const { inChannels, outChannels, contextWidth, guidanceWidth, classEmbedding } = unet.config
  const channels = (base.vae ?? base.tinyVae)!.config.latentChannels
  if (inChannels !== channels || outChannels !== channels)
    throw fail(`expected a refiner of ${channels} latent channels, found ${inChannels} and ${outChannels}`)
  if (guidanceWidth !== undefined) throw fail('expected a refiner without a guidance embedding, found one')
  if (classEmbedding) throw fail('expected a refiner without a class embedding, found one')
  const [wanted, found] = [base, opened].map(({ schedule }) => schedule.predictionType)
  if (wanted !== found) throw fail(`expected a refiner that predicts ${wanted}, as the model, found ${found}`)
  if (base.textEncoders.length === 0)
    throw new DiffusionError(
      'UNSUPPORTED_MODEL',
      `${base.path}: expected text encoders in a model with a refiner, found none: give them as the option textEncoders`,
    )
  const borrowed = opened.textEncoders.length > 0 ? 0 : fittingEncoders(base.textEncoders, contextWidth)
  const textEncoders = borrowed > 0 ? base.textEncoders.slice(-borrowed) : opened.textEncoders
  const model = { ...opened, unet, textEncoders }
  checkConditions(model)
  return { model, borrowed }
}

/** How many of the last text encoders have this width together; all of them if none do. */
function fittingEncoders(textEncoders: readonly TextEncoderDescription[], contextWidth: number): number {
  let width = 0
  for (let n = 1; n <= textEncoders.length; n++) {
    width += textEncoders.at(-n)!.config.width
    if (width === contextWidth) return n
  }
  return textEncoders.length
}

/** The stored components that only the refiner uses. */
export function refinerComponents({ model, borrowed }: RefinerDescription) {
  return { unet: model.unet, textEncoders: borrowed > 0 ? [] : model.textEncoders }
}

/** Loads a refiner. `keep` is called with each part as soon as it is loaded. */
export async function loadRefiner(
  { model, borrowed }: RefinerDescription,
  base: { textEncoders: readonly TextEncoder[]; tokenizers: readonly Tokenizer[] },
  placement: Placement,
  signal: AbortSignal | undefined,
  keep: <T extends { dispose(): Promise<void> }>(part: T) => T,
): Promise<Refiner> {
  const { path, unet, textEncoders: descriptions } = model
  const own = borrowed === 0
  const tokenizers = own ? await loadTokenizers(path, descriptions) : base.tokenizers.slice(-borrowed)
  const textEncoders = own
    ? await loadTextEncoders(descriptions, tokenizers, [], placement, signal, keep)
    : base.textEncoders.slice(-borrowed)
  return {
    name: modelName(path),
    textEncoders,
    tokenizers,
    unet: keep(await Unet.load(unet, placement, { signal })),
    timeIdCount: timeIdCountOf(model),
    zeroesEmptyNegative: model.zeroesEmptyNegative,
  }
}

/** A model's name for people: that of its file without the extension, or of its folder. */
export function modelName(path: string): string {
  return basename(path).replace(/\.(safetensors|gguf|ckpt|pth?|bin)$/i, '')
}

/**
 * Index of the first timestep of the refiner, as diffusers' denoising_start: the first step whose noise is below that share
 * of the training schedule.
 *
 * @param share 0…1, the part of the schedule that belongs to the model
 */
export function refinerBegin(
  { timesteps, order = 1 }: Pick<Scheduler, 'timesteps' | 'order'>,
  share: number,
  trainTimesteps: number,
): number {
  if (share === 1) return timesteps.length
  const cutoff = Math.round(trainTimesteps * (1 - share))
  let index = 0
  while (index < timesteps.length && timesteps[index] >= cutoff) index += order
  return Math.min(index, timesteps.length)
}
