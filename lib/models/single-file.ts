import type { ModelConfigs, UnetConfig, VaeConfig } from '../native.js'
import { inSlices } from '../event-loop.js'
import { quote } from '../quote.js'
import type { PredictionType } from '../types.js'
import { matchTensors, type Tensors } from './component.js'
import { BIG_G_WIDTH, deriveText, deriveUnet, deriveVae } from './families/derive.js'
import { badFormat, unsupported } from './formats/fail.js'
import { refuseUnsupportedModels } from './families/unsupported-models.js'
import {
  storedComponents,
  type ModelDescription,
  type TextEncoderDescription,
  type TokenizerDescription,
} from './model-description.js'
import {
  isClipText,
  isOpenClip,
  isProjectionTransposed,
  PROJECTION,
  renameClipText,
  renameOpenClip,
} from './names/text.js'
import { deriveControlNet } from './families/control-net.js'
import { isControlNet, renameControlNet } from './names/control-net.js'
import { isOriginalUnet, renameOriginalUnet } from './names/unet.js'
import { isVae, renameVae } from './names/vae.js'
import { findImageEncoder } from './names/vision.js'
import { guessSchedule } from './families/guess-schedule.js'
import { defaultSchedule } from './families/schedule.js'
import { CONFIG_KEY, readStoredConfig, type StoredConfig } from './families/stored-config.js'
import { chooseTextOutputs } from './families/text-outputs.js'
import { requiredTensors } from './families/required-tensors.js'
import type { TensorFile } from './formats/tensor-file.js'
import { OPEN_CLIP_PAD } from './tokenizer-files.js'
import { isLatentUpscaler } from './families/latent-upscaler.js'
import { imageEmbeddingWidth } from './families/unclip.js'
import { isUpscaler, UPSCALER_SCALING_FACTOR } from './families/upscaler.js'
import { unusedTensors } from './unused-tensors.js'
import { readUnclipFile } from './unclip.js'
import { deriveTinyVae, isTinyVae, renameTinyVae } from './families/tiny-vae.js'

/**
 * Describes a whole model or one component in one file. Tensors have the original latent-diffusion names (as in most
 * checkpoints and stable-diffusion.cpp's GGUF files), diffusers' names with a prefix for each component, or the names
 * of a single component without a prefix.
 */

interface Parts {
  unet?: Tensors
  controlNet?: Tensors
  vae?: Tensors
  texts: TextPart[]
}

interface TextPart {
  tensors: Tensors
  openClip: boolean
}

const isDiffusersUnet = (t: Tensors) => t.has('conv_in.weight') && t.has('time_embedding.linear_1.weight')
const isUnet = (t: Tensors) => isOriginalUnet(t) || isDiffusersUnet(t)
const isText = (t: Tensors) => isOpenClip(t) || isClipText(t)

const PREFIXES = {
  unet: ['model.diffusion_model.', 'unet.'],
  controlNet: ['control_model.', 'control_net.'],
  vae: ['first_stage_model.', 'vae.'],
} as const

/**
 * The text encoders in their order. `conditioner.embedders` is SDXL's name for `cond_stage_model`, which files of Stable
 * Diffusion 2 Turbo have too; stable-diffusion.cpp writes `cond_stage_model.1`.
 */
const TEXT_PREFIXES = [
  [
    'cond_stage_model.transformer.',
    'cond_stage_model.model.',
    'conditioner.embedders.0.transformer.',
    'conditioner.embedders.0.model.',
    'text_encoder.',
  ],
  [
    'conditioner.embedders.1.model.',
    'conditioner.embedders.1.transformer.',
    'cond_stage_model.1.transformer.',
    'text_encoder_2.',
  ],
] as const

export async function describeSingleFile(file: TensorFile): Promise<ModelDescription> {
  if (isTinyVae(file.tensors)) return describeTinyVae(file)
  const model = await describeParts(file)
  const sources = storedComponents(model).map(({ source }) => source)
  const unused = unusedTensors('The file', file.tensors.values(), sources)
  return unused === undefined ? model : { ...model, unused: [unused] }
}

async function describeParts(file: TensorFile): Promise<ModelDescription> {
  const { path, metadata } = file
  const stored = await readStoredConfig(path, metadata)
  const parts = await findParts(file)
  const source = <Kind extends keyof ModelConfigs>(
    kind: Kind,
    tensors: Tensors,
    config: ModelConfigs[Kind],
    derived: boolean,
  ) => {
    const where = derived ? path : `${path}: ${CONFIG_KEY}`
    return matchTensors(path, [file], tensors, requiredTensors(where, kind, config), derived)
  }

  const model: ModelDescription = {
    path,
    format: file.format,
    architecture: '',
    textEncoders: [],
    schedule: defaultSchedule(),
    imageSize: 512,
  }
  if (parts.unet) {
    const known = component(path, stored, stored?.unet, 'unet')
    const config: UnetConfig = known?.config ?? deriveUnet(path, parts.unet)
    model.unet = { config, source: source('unet', parts.unet, config, !known) }
  }
  if (parts.controlNet) {
    const known = component(path, stored, stored?.controlNet, 'controlNet')
    const config = known?.config ?? deriveControlNet(path, parts.controlNet)
    const bgr = known?.bgr
    model.controlNet = {
      config,
      source: source('controlNet', parts.controlNet, config, !known),
      ...(bgr && { bgr }),
    }
  }
  if (parts.vae) {
    const known = component(path, stored, stored?.vae, 'vae')
    const config: VaeConfig = known?.config ?? deriveVae(path, parts.vae)
    const scalingFactor = known?.scalingFactor ?? usualScalingFactor(model.unet?.config)
    model.vae = { config, source: source('vae', parts.vae, config, !known), scalingFactor }
  }
  for (const [i, { tensors, openClip }] of parts.texts.entries()) {
    const known = component(path, stored, stored?.textEncoders[i], i === 0 ? 'textEncoder' : 'textEncoder2')
    if (!known && !usesProjection(model, tensors, i === parts.texts.length - 1)) tensors.delete(PROJECTION)
    const { config, skip, finalNorm }: Pick<TextEncoderDescription, 'config' | 'skip' | 'finalNorm'> =
      known ?? deriveText(path, tensors, openClip, isProjectionTransposed(tensors))
    model.textEncoders.push({
      config,
      skip,
      ...(finalNorm !== undefined && { finalNorm }),
      tokenizer: known ? known.tokenizer : derivedTokenizer(config),
      source: source('textEncoder', tensors, config, !known),
    })
  }
  if (!stored) chooseTextOutputs(model)
  const embedding = imageEmbeddingWidth(model.unet?.config)
  if (embedding !== undefined) model.unclip = await readUnclipFile(file, embedding, stored?.unclip)

  if (stored) {
    const { textEncoders, unet, vae, controlNet, unclip, ...facts } = stored
    return Object.assign(model, facts)
  }
  model.architecture = architectureName(model)
  // As diffusers has it for SDXL's base model, but not for the refiner.
  if (model.unet?.config.added && model.unet.config.contextWidth !== REFINER_WIDTH)
    model.zeroesEmptyNegative = true
  const { schedule, assumesPrediction } = await guessSchedule(file, model.unet?.config)
  model.schedule = schedule
  model.imageSize = guessImageSize(file, model, schedule.predictionType)
  if (assumesPrediction) {
    const sizeFor = (type: PredictionType) => guessImageSize(file, model, type)
    const imageSizes = { epsilon: sizeFor('epsilon'), v_prediction: sizeFor('v_prediction') }
    model.assumedPrediction = { imageSizes }
  }
  return model
}

/** The scaling factor of the autoencoder that a UNet was trained with, where no file says it. */
export function usualScalingFactor(unet: UnetConfig | undefined): number {
  if (isUpscaler(unet)) return UPSCALER_SCALING_FACTOR
  return unet?.added ? 0.13025 : 0.18215
}

/** Whether a text encoder's projection has a use: only SDXL takes the pooled output, that of its last text encoder. */
function usesProjection({ unet }: ModelDescription, tensors: Tensors, last: boolean): boolean {
  if (unet) return unet.config.added !== undefined && last
  // A text encoder alone: that of SDXL is known by its width.
  return tensors.get('embeddings.token_embedding.weight')?.shape[1] === BIG_G_WIDTH
}

/** OpenCLIP has CLIP's vocabulary, but pads with another token. */
function derivedTokenizer({
  activation,
  maxPositions,
}: TextEncoderDescription['config']): TokenizerDescription | null {
  return activation === 'gelu' ? { maxLength: maxPositions, padToken: OPEN_CLIP_PAD } : null
}

async function describeTinyVae(file: TensorFile): Promise<ModelDescription> {
  const { path, format } = file
  const tensors = renameTinyVae([path], file.tensors)
  const config = deriveTinyVae(path, tensors)
  const source = matchTensors(path, [file], tensors, requiredTensors(path, 'tinyVae', config), true)
  const { schedule } = await guessSchedule(file, undefined)
  const tinyVae = { config, source }
  return {
    path,
    format,
    architecture: architectureName({ tinyVae }),
    textEncoders: [],
    tinyVae,
    schedule,
    imageSize: 512,
  }
}

/** The stored configuration of a component. A file with metadata must have it for all components that it contains. */
function component<Config>(
  path: string,
  stored: StoredConfig | undefined,
  known: Config | undefined,
  key: string,
): Config | undefined {
  if (stored && !known)
    throw badFormat(path, `expected ${CONFIG_KEY} to describe ${key}, whose tensors are in the file`)
  return known
}

async function findParts(file: TensorFile): Promise<Parts> {
  const { path, tensors } = file
  const groups = {
    unet: split(tensors, PREFIXES.unet),
    vae: split(tensors, PREFIXES.vae),
    controlNet: split(tensors, PREFIXES.controlNet),
    texts: TEXT_PREFIXES.map((prefixes) => split(tensors, prefixes, isText)).filter(
      (text) => text !== undefined,
    ),
  }
  // Tensors of other families, such as a LoRA's that was left in, do not matter in a whole model.
  const whole = groups.unet !== undefined && isUnet(groups.unet)
  if (!whole) await inSlices(refuseUnsupportedModels(file))
  else if (groups.controlNet && !isControlNet(groups.controlNet)) groups.controlNet = undefined
  const unprefixed = !groups.unet && !groups.vae && !groups.controlNet && groups.texts.length === 0
  if (unprefixed) {
    if (isControlNet(tensors)) groups.controlNet = tensors
    else if (isUnet(tensors)) groups.unet = tensors
    else if (isVae(tensors)) groups.vae = tensors
    else if (isText(tensors)) groups.texts = [tensors]
    else if (findImageEncoder(tensors)) {
      throw unsupported(path, 'this is a CLIP image encoder and no model: ImageEncoder.load() takes it')
    } else {
      const names = [...tensors.keys()].slice(0, 3).map((name) => quote(name, 60))
      const found =
        names.length > 0 ? `${tensors.size} tensors, the first ones ${names.join(', ')}` : 'no tensors'
      throw badFormat(path, `expected the tensors of a UNet, a VAE or a text encoder, found ${found}`)
    }
  }
  const paths = [path]
  const parts: Parts = { texts: [] }
  if (groups.unet)
    parts.unet = isOriginalUnet(groups.unet) ? renameOriginalUnet(paths, groups.unet) : groups.unet
  if (groups.controlNet) parts.controlNet = renameControlNet(paths, groups.controlNet)
  if (groups.vae) parts.vae = renameVae(paths, groups.vae)
  for (const text of groups.texts) {
    const openClip = isOpenClip(text)
    const tensors = openClip ? renameOpenClip(paths, text) : renameClipText(paths, text)
    parts.texts.push({ tensors, openClip })
  }
  return parts
}

/**
 * The tensors with the first of `prefixes` that occurs, without the prefix. Those that `accepts` come first, because
 * conversions leave single tensors under other names.
 */
function split(
  tensors: Tensors,
  prefixes: readonly string[],
  accepts: (found: Tensors) => boolean = () => true,
): Tensors | undefined {
  const groups = prefixes.map((prefix) => {
    const found: Tensors = new Map()
    for (const [name, tensor] of tensors)
      if (name.startsWith(prefix)) found.set(name.slice(prefix.length), tensor)
    return found
  })
  return groups.find((found) => found.size > 0 && accepts(found)) ?? groups.find((found) => found.size > 0)
}

/** Width of the context of SDXL's refiner, which has one text encoder. */
const REFINER_WIDTH = 1280

/** What models are for that take so many channels. */
const PURPOSES: ReadonlyMap<number, string> = new Map([
  [9, ' (inpainting)'],
  [8, ' (image-conditioned)'],
  [5, ' (depth)'],
])

export function architectureName(
  model: Pick<ModelDescription, 'unet' | 'vae' | 'tinyVae' | 'controlNet'>,
): string {
  if (model.unet) {
    const { contextWidth, inChannels, blockChannels, added } = model.unet.config
    if (imageEmbeddingWidth(model.unet.config) !== undefined) return 'Stable Diffusion unCLIP'
    if (isUpscaler(model.unet.config)) return 'Stable Diffusion ×4 upscaler'
    if (isLatentUpscaler(model.unet.config)) return 'Stable Diffusion ×2 latent upscaler'
    if (added && contextWidth === REFINER_WIDTH) return 'Stable Diffusion XL refiner'
    const purpose = PURPOSES.get(inChannels) ?? ''
    if (added && contextWidth === 2048) return `Stable Diffusion XL${purpose}`
    if (blockChannels[0] === 320 && contextWidth === 768) return `Stable Diffusion 1.x${purpose}`
    if (blockChannels[0] === 320 && contextWidth === 1024) return `Stable Diffusion 2.x${purpose}`
    return `latent diffusion${purpose}`
  }
  if (model.controlNet) return 'ControlNet'
  if (model.vae) return model.vae.config.codebook ? 'VQ autoencoder' : 'KL autoencoder'
  if (model.tinyVae) return 'tiny autoencoder'
  return 'CLIP text encoder'
}

/**
 * Image size in pixels: from the metadata, otherwise 64×64 latents, or 96×96 for Stable Diffusion 2 with v-prediction,
 * or 128×128 for Stable Diffusion XL.
 */
function guessImageSize(file: TensorFile, model: ModelDescription, predictionType: PredictionType): number {
  const resolution = file.metadata.get('modelspec.resolution')
  const match = typeof resolution === 'string' ? /^(\d{2,4})x(\d{2,4})$/.exec(resolution) : null
  if (match) return Math.max(Number(match[1]), Number(match[2]))
  const factor = model.vae ? 2 ** (model.vae.config.blockChannels.length - 1) : 8
  if (isUpscaler(model.unet?.config) || isLatentUpscaler(model.unet?.config)) return 128 * factor
  const large = model.unet?.config.contextWidth === 1024 && predictionType === 'v_prediction'
  if (model.unet?.config.added) return 128 * factor
  return (large ? 96 : 64) * factor
}
