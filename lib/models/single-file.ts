import type { ModelConfigs, TextEncoderConfig, UnetConfig, VaeConfig } from '../native.js'
import { quote } from '../quote.js'
import { matchTensors, type Tensors } from './component.js'
import { deriveText, deriveUnet, deriveVae } from './families/derive.js'
import { badFormat } from './formats/fail.js'
import { refuseUnsupportedModels } from './families/unsupported-models.js'
import type { ModelDescription, TokenizerDescription } from './model-description.js'
import { isClipText, isOpenClip, renameClipText, renameOpenClip } from './names/text.js'
import { isOriginalUnet, renameOriginalUnet } from './names/unet.js'
import { isVae, renameVae } from './names/vae.js'
import { guessSchedule } from './families/guess-schedule.js'
import { CONFIG_KEY, readStoredConfig, type StoredConfig } from './families/stored-config.js'
import { requiredTensors } from './families/required-tensors.js'
import type { TensorFile } from './formats/tensor-file.js'
import { OPEN_CLIP_PAD } from './tokenizer-files.js'
import { deriveTinyVae, isTinyVae, renameTinyVae } from './families/tiny-vae.js'

/**
 * Describes a whole model or one component in one file. Tensors have the original latent-diffusion names (as in most
 * checkpoints and stable-diffusion.cpp's GGUF files), diffusers' names with a prefix for each component, or the names
 * of a single component without a prefix.
 */

interface Parts {
  unet?: Tensors
  vae?: Tensors
  text?: Tensors
  openClip: boolean
}

const isDiffusersUnet = (t: Tensors) => t.has('conv_in.weight') && t.has('time_embedding.linear_1.weight')
const isUnet = (t: Tensors) => isOriginalUnet(t) || isDiffusersUnet(t)
const isText = (t: Tensors) => isOpenClip(t) || isClipText(t)

const PREFIXES = {
  unet: ['model.diffusion_model.', 'unet.'],
  vae: ['first_stage_model.', 'vae.'],
  text: ['cond_stage_model.transformer.', 'cond_stage_model.model.', 'text_encoder.'],
} as const

export async function describeSingleFile(file: TensorFile): Promise<ModelDescription> {
  const { path, metadata } = file
  refuseUnsupportedModels(path, file.tensors)
  if (isTinyVae(file.tensors)) return describeTinyVae(file)
  const stored = readStoredConfig(path, metadata)
  const parts = findParts(path, file.tensors)
  const source = <Kind extends keyof ModelConfigs>(
    kind: Kind,
    tensors: Tensors,
    config: ModelConfigs[Kind],
    derived: boolean,
  ) => {
    const where = derived ? path : `${path}: ${CONFIG_KEY}`
    return matchTensors(path, [path], tensors, requiredTensors(where, kind, config), derived)
  }

  const model: ModelDescription = {
    path,
    format: file.format,
    architecture: '',
    textEncoders: [],
    schedule: await guessSchedule(file, undefined),
    imageSize: 512,
  }
  if (parts.unet) {
    const known = component(path, stored, stored?.unet, 'unet')
    const config: UnetConfig = known?.config ?? deriveUnet(path, parts.unet)
    model.unet = { config, source: source('unet', parts.unet, config, !known) }
  }
  if (parts.vae) {
    const known = component(path, stored, stored?.vae, 'vae')
    const config: VaeConfig = known?.config ?? deriveVae(path, parts.vae)
    const scalingFactor = known?.scalingFactor ?? 0.18215
    model.vae = { config, source: source('vae', parts.vae, config, !known), scalingFactor }
  }
  if (parts.text) {
    const known = component(path, stored, stored?.textEncoders[0], 'textEncoder')
    const { config, skip }: { config: TextEncoderConfig; skip: number } =
      known ?? deriveText(path, parts.text, parts.openClip)
    const tokenizer = known ? known.tokenizer : derivedTokenizer(config)
    model.textEncoders.push({
      config,
      skip,
      tokenizer,
      source: source('textEncoder', parts.text, config, !known),
    })
  }

  if (stored) {
    const { textEncoders, unet, vae, ...facts } = stored
    return Object.assign(model, facts)
  }
  model.architecture = architectureName(model)
  model.schedule = await guessSchedule(file, model.unet?.config)
  model.imageSize = guessImageSize(file, model)
  return model
}

/** OpenCLIP has CLIP's vocabulary, but pads with another token. */
function derivedTokenizer({ activation, maxPositions }: TextEncoderConfig): TokenizerDescription | null {
  return activation === 'gelu' ? { maxLength: maxPositions, padToken: OPEN_CLIP_PAD } : null
}

async function describeTinyVae(file: TensorFile): Promise<ModelDescription> {
  const { path, format } = file
  const tensors = renameTinyVae([path], file.tensors)
  const config = deriveTinyVae(path, tensors)
  const source = matchTensors(path, [path], tensors, requiredTensors(path, 'tinyVae', config), true)
  const schedule = await guessSchedule(file, undefined)
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

function findParts(path: string, tensors: Tensors): Parts {
  const groups = {
    unet: split(tensors, PREFIXES.unet),
    vae: split(tensors, PREFIXES.vae),
    text: split(tensors, PREFIXES.text),
  }
  const unprefixed = !groups.unet && !groups.vae && !groups.text
  if (unprefixed) {
    if (isUnet(tensors)) groups.unet = tensors
    else if (isVae(tensors)) groups.vae = tensors
    else if (isText(tensors)) groups.text = tensors
    else {
      const names = [...tensors.keys()].slice(0, 3).map((name) => quote(name, 60))
      const found =
        names.length > 0 ? `${tensors.size} tensors, the first ones ${names.join(', ')}` : 'no tensors'
      throw badFormat(path, `expected the tensors of a UNet, a VAE or a text encoder, found ${found}`)
    }
  }
  const paths = [path]
  const parts: Parts = { openClip: false }
  if (groups.unet)
    parts.unet = isOriginalUnet(groups.unet) ? renameOriginalUnet(paths, groups.unet) : groups.unet
  if (groups.vae) parts.vae = renameVae(paths, groups.vae)
  if (groups.text) {
    parts.openClip = isOpenClip(groups.text)
    parts.text = parts.openClip ? renameOpenClip(paths, groups.text) : renameClipText(paths, groups.text)
  }
  return parts
}

/** The tensors with the first of `prefixes` that occurs, without the prefix. */
function split(tensors: Tensors, prefixes: readonly string[]): Tensors | undefined {
  for (const prefix of prefixes) {
    const found: Tensors = new Map()
    for (const [name, tensor] of tensors)
      if (name.startsWith(prefix)) found.set(name.slice(prefix.length), tensor)
    if (found.size > 0) return found
  }
  return undefined
}

export function architectureName(model: Pick<ModelDescription, 'unet' | 'vae' | 'tinyVae'>): string {
  if (model.unet) {
    const { contextWidth, inChannels, blockChannels } = model.unet.config
    const purpose = inChannels === 9 ? ' (inpainting)' : inChannels === 8 ? ' (image-conditioned)' : ''
    if (blockChannels[0] === 320 && contextWidth === 768) return `Stable Diffusion 1.x${purpose}`
    if (blockChannels[0] === 320 && contextWidth === 1024) return `Stable Diffusion 2.x${purpose}`
    return `latent diffusion${purpose}`
  }
  if (model.vae) return model.vae.config.codebook ? 'VQ autoencoder' : 'KL autoencoder'
  if (model.tinyVae) return 'tiny autoencoder'
  return 'CLIP text encoder'
}

/**
 * Image size in pixels: from the metadata, otherwise 64×64 latents, or 96×96 for Stable Diffusion 2 with v-prediction.
 */
function guessImageSize(file: TensorFile, model: ModelDescription): number {
  const resolution = file.metadata.get('modelspec.resolution')
  const match = typeof resolution === 'string' ? /^(\d{2,4})x(\d{2,4})$/.exec(resolution) : null
  if (match) return Math.max(Number(match[1]), Number(match[2]))
  const factor = model.vae ? 2 ** (model.vae.config.blockChannels.length - 1) : 8
  const large = model.unet?.config.contextWidth === 1024 && model.schedule.predictionType === 'v_prediction'
  return (large ? 96 : 64) * factor
}
