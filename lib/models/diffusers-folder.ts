import { readdir } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { quote, show } from '../quote.js'
import { matchTensors, type Tensors } from './component.js'
import { ConfigReader } from './families/config-reader.js'
import { textConfig, unetConfig, vaeConfig } from './families/diffusers-config.js'
import { badFormat, unsupported } from './formats/fail.js'
import { MAX_SAMPLE_SIZE } from './families/limits.js'
import type { RequiredTensor } from '../native.js'
import type { ModelDescription, TextEncoderDescription, TokenizerDescription } from './model-description.js'
import { controlNetConfig } from './families/control-net.js'
import { isUnion, renameControlNet } from './names/control-net.js'
import { renameClipText } from './names/text.js'
import { renameVae } from './names/vae.js'
import { requiredTensors } from './families/required-tensors.js'
import { defaultSchedule, scheduleFromDiffusers } from './families/schedule.js'
import { chooseTextOutputs } from './families/text-outputs.js'
import { architectureName } from './single-file.js'
import { renameTinyVae, tinyVaeConfig } from './families/tiny-vae.js'
import { imageEmbeddingWidth } from './families/unclip.js'
import { isUpscaler, readLowResolution } from './families/upscaler.js'
import { unusedTensors } from './unused-tensors.js'
import { readUnclipFolder } from './unclip.js'
import { isFile, isFolder, OPEN_CLIP_PAD, readTokenizer } from './tokenizer-files.js'
import { readWeights } from './formats/weight-files.js'

/** Number of tokens of the built-in CLIP vocabulary. */
const CLIP_VOCABULARY = 49_408

/** Components of other pipelines without which the model would give other images. */
// prettier-ignore
const UNSUPPORTED_PARTS = [
  'transformer', 'text_encoder_3', 'prior', 'decoder', 'movq', 'bert', 'controlnet', 'motion_adapter',
  'adapter', 'super_res_first',
]

/** The components that have been found. */
type Found = Pick<ModelDescription, 'unet' | 'vae' | 'tinyVae' | 'controlNet'> & {
  textEncoders: Omit<TextEncoderDescription, 'tokenizer'>[]
  unused: string[]
  unetSamples?: number
  vaeSamples?: number
}

/**
 * Describes a folder as diffusers' save_pretrained() writes it: a pipeline, or one of its components.
 *
 * @param variant of the weights to prefer; a component that does not have it is read without
 */
export async function describeFolder(folder: string, variant?: string): Promise<ModelDescription> {
  const configPath = join(folder, 'config.json')
  const indexPath = join(folder, 'model_index.json')
  if (await isFile(indexPath)) return describePipeline(folder, await ConfigReader.read(indexPath), variant)
  if (await isFile(configPath)) return describeComponent(folder, await ConfigReader.read(configPath), variant)
  for (const part of ['unet', 'vae', 'vqvae', 'text_encoder']) {
    if (await isFile(join(folder, part, 'config.json'))) return describePipeline(folder, undefined, variant)
  }
  const files = (await readdir(folder))
    .filter((name) => /\.(safetensors|gguf|ckpt|pth?|bin)$/.test(name))
    .slice(0, 5)
  const hint =
    files.length > 0 ? `; name the file itself: ${files.map((name) => quote(name)).join(', ')}` : ''
  throw badFormat(
    folder,
    `expected a diffusers folder with model_index.json, or config.json of a component, found neither${hint}`,
  )
}

/** @param index model_index.json; without it, the names of the folders tell the components */
async function describePipeline(
  folder: string,
  index: ConfigReader | undefined,
  variant: string | undefined,
): Promise<ModelDescription> {
  const listed = (part: string) => {
    const value = index?.get(part)
    return Array.isArray(value) && value.length > 0 && typeof value.at(-1) === 'string'
  }
  const pipeline = index?.has('_class_name') ? ` (${show(index.get('_class_name'))})` : ''
  if (listed('prior') && listed('image_normalizer'))
    throw unsupported(
      index!.path,
      `the pipeline${pipeline} draws from text alone by a prior, which is not supported: use a folder of ` +
        'StableUnCLIPImg2ImgPipeline, which draws from an image and text',
    )
  for (const part of UNSUPPORTED_PARTS) {
    if (listed(part))
      throw unsupported(index!.path, `the pipeline${pipeline} has a part ${part}, which is not supported`)
  }

  const found: Found = { textEncoders: [], unused: [] }
  // Names of the tokenizers' folders.
  const tokenizers: string[] = []
  for (const part of ['text_encoder', 'text_encoder_2', 'unet', 'vae', 'vqvae']) {
    const configPath = join(folder, part, 'config.json')
    if (await isFile(configPath)) {
      await readComponent(join(folder, part), await ConfigReader.read(configPath), found, variant)
      if (part.startsWith('text_encoder')) tokenizers.push(part.replace('text_encoder', 'tokenizer'))
    } else if (listed(part))
      throw badFormat(
        folder,
        `model_index.json names ${part}: expected the file ${part}/config.json, found none`,
      )
  }
  if (!found.unet && !found.vae && !found.tinyVae && found.textEncoders.length === 0) {
    throw badFormat(
      folder,
      `expected one of the components text_encoder, unet, vae or vqvae${pipeline}, found none`,
    )
  }

  const schedulePath = join(folder, 'scheduler', 'scheduler_config.json')
  const scheduled = await isFile(schedulePath)
  if (!scheduled && listed('scheduler')) {
    throw badFormat(
      folder,
      'model_index.json names scheduler: expected the file scheduler/scheduler_config.json, found none',
    )
  }
  // The default of the classes for SDXL; others do not have it.
  const zeroes =
    found.unet?.config.added !== undefined && (index?.boolean('force_zeros_for_empty_prompt', true) ?? true)
  const embedding = imageEmbeddingWidth(found.unet?.config)
  const knowledge = await readKnowledge(join(folder, 'knowledge.json'))
  const read: (TokenizerDescription | null)[] = []
  const warnings: string[] = []
  for (const [i, encoder] of found.textEncoders.entries())
    read.push(await readTokenizerOf(folder, tokenizers[i], encoder))
  return {
    ...describe(folder, found, read),
    ...(zeroes && { zeroesEmptyNegative: true }),
    schedule: scheduled
      ? scheduleFromDiffusers(await ConfigReader.read(schedulePath), warnings)
      : defaultSchedule(),
    ...(isUpscaler(found.unet?.config) && { lowResolution: await readLowResolution(folder, index) }),
    ...(embedding !== undefined && { unclip: await readUnclipFolder(folder, embedding, variant) }),
    ...(warnings.length > 0 && { warnings }),
    ...knowledge,
  }
}

/** Reads what tools/train/export.py writes for a model: the words of its captions, and its best guidance scale. */
async function readKnowledge(
  path: string,
): Promise<Pick<ModelDescription, 'trainedWords' | 'guidanceScale'>> {
  if (!(await isFile(path))) return {}
  const knowledge = await ConfigReader.read(path)
  return {
    ...(knowledge.has('words') && { trainedWords: knowledge.strings('words', []) }),
    ...(knowledge.has('guidanceScale') && {
      guidanceScale: knowledge.number('guidanceScale', undefined, 0, 100),
    }),
  }
}

async function describeComponent(
  folder: string,
  config: ConfigReader,
  variant: string | undefined,
): Promise<ModelDescription> {
  const found: Found = { textEncoders: [], unused: [] }
  await readComponent(folder, config, found, variant)
  return describe(folder, found, found.textEncoders.map(builtInTokenizer))
}

function describe(
  folder: string,
  found: Found,
  tokenizers: readonly (TokenizerDescription | null)[],
): ModelDescription {
  const { unet, vae, tinyVae, controlNet, unetSamples, vaeSamples } = found
  const textEncoders = found.textEncoders.map((encoder, i) => ({ ...encoder, tokenizer: tokenizers[i] }))
  chooseTextOutputs({ unet, textEncoders })
  const levels = vae?.config.blockChannels.length ?? tinyVae?.config.decoderBlocks.length ?? 4
  const factor = 2 ** (levels - 1)
  return {
    path: folder,
    format: 'diffusers',
    architecture: architectureName(found),
    textEncoders,
    ...(unet && { unet }),
    ...(vae && { vae }),
    ...(tinyVae && { tinyVae }),
    ...(controlNet && { controlNet }),
    ...(found.unused.length > 0 && { unused: found.unused }),
    schedule: defaultSchedule(),
    imageSize: unet ? (unetSamples ?? 64) * factor : (vaeSamples ?? 512),
  }
}

async function readComponent(
  folder: string,
  config: ConfigReader,
  found: Found,
  variant: string | undefined,
): Promise<void> {
  const className = componentClass(config)
  const at = { folder, variant, found }
  if (className === 'UNet2DConditionModel') {
    const parsed = unetConfig(config)
    const samples = sampleSize(config)
    const source = await readSource(at, (_, tensors) => tensors, requiredTensors(config.path, 'unet', parsed))
    found.unet = { config: parsed, source }
    if (samples !== undefined) found.unetSamples = samples
  } else if (className === 'AutoencoderKL' || className === 'VQModel') {
    if (found.vae) throw unsupported(folder, 'expected one of vae and vqvae, found both')
    const parsed = vaeConfig(config, className === 'VQModel')
    const samples = sampleSize(config)
    const source = await readSource(at, renameVae, requiredTensors(config.path, 'vae', parsed.config))
    found.vae = { ...parsed, source }
    if (samples !== undefined) found.vaeSamples = samples
  } else if (/^ControlNet(Union)?Model(_Union)?$/.test(className)) {
    const parsed = controlNetConfig(config)
    const required = requiredTensors(config.path, 'controlNet', parsed.config)
    const rename = (paths: readonly string[], tensors: Tensors) => {
      if (isUnion(tensors) && !parsed.config.union)
        throw badFormat(
          config.path,
          'expected num_control_type, as the weights are those of a ControlNet for several kinds of pictures (union)',
        )
      return renameControlNet(paths, tensors)
    }
    const source = await readSource(at, rename, required)
    found.controlNet = { config: parsed.config, source, ...(parsed.bgr && { bgr: true }) }
  } else if (className === 'AutoencoderTiny') {
    const parsed = tinyVaeConfig(config)
    const source = await readSource(at, renameTinyVae, requiredTensors(config.path, 'tinyVae', parsed))
    found.tinyVae = { config: parsed, source }
  } else if (/^CLIP(TextModel|TextModelWithProjection|Model)$/.test(className)) {
    const parsed = textConfig(config, className === 'CLIPTextModelWithProjection')
    const source = await readSource(at, renameClipText, requiredTensors(config.path, 'textEncoder', parsed))
    found.textEncoders.push({ config: parsed, source, skip: 0 })
  } else if (className === 'T2IAdapter') {
    throw unsupported(
      folder,
      'this is a T2I-Adapter, which guides a model and is not one itself: give it to load() as one of controlNets, with a model',
    )
  } else if (className === 'CLIPVisionModelWithProjection') {
    throw unsupported(folder, 'this is a CLIP image encoder and no model: ImageEncoder.load() takes it')
  } else {
    throw unsupported(
      config.path,
      `expected UNet2DConditionModel, AutoencoderKL, VQModel, AutoencoderTiny, ControlNetModel or CLIPTextModel, found ${show(className)}`,
    )
  }
}

async function readSource(
  { folder, variant, found }: { folder: string; variant: string | undefined; found: Found },
  rename: (paths: readonly string[], tensors: Tensors) => Tensors,
  required: readonly RequiredTensor[],
) {
  const { files, tensors } = await readWeights(folder, variant)
  const paths = files.map(({ path }) => path)
  const source = matchTensors(folder, files, rename(paths, tensors), required, false)
  const unused = unusedTensors(basename(folder), tensors.values(), [source])
  if (unused !== undefined) found.unused.push(unused)
  return source
}

/** The class name: `_class_name` in diffusers, the only element of `architectures` in transformers. */
function componentClass(config: ConfigReader): string {
  if (config.has('_class_name')) return config.string('_class_name')
  const [name] = config.strings('architectures', [])
  if (name !== undefined) return name
  throw badFormat(config.path, 'expected _class_name or architectures to name the model, found neither')
}

function sampleSize(config: ConfigReader): number | undefined {
  if (!config.has('sample_size')) return undefined
  if (!Array.isArray(config.get('sample_size')))
    return config.integer('sample_size', undefined, 1, MAX_SAMPLE_SIZE)
  return Math.max(...config.integers('sample_size', undefined, 1, MAX_SAMPLE_SIZE, 2))
}

async function readTokenizerOf(
  folder: string,
  name: string,
  textEncoder: Found['textEncoders'][number],
): Promise<TokenizerDescription | null> {
  const { vocabSize, maxPositions } = textEncoder.config
  const tokenizerFolder = join(folder, name)
  if (await isFolder(tokenizerFolder)) return readTokenizer(tokenizerFolder, maxPositions)
  if (vocabSize !== CLIP_VOCABULARY) {
    const own = `the text encoder has a vocabulary of its own (${vocabSize} tokens)`
    throw badFormat(folder, `${own}: expected ${name}/vocab.json and ${name}/merges.txt, found none`)
  }
  return builtInTokenizer(textEncoder)
}

/** The built-in vocabulary. Stable Diffusion 2's text encoder was trained with another padding token. */
function builtInTokenizer({ config }: Pick<TextEncoderDescription, 'config'>): TokenizerDescription | null {
  if (config.activation !== 'gelu' || config.vocabSize !== CLIP_VOCABULARY) return null
  return { maxLength: config.maxPositions, padToken: OPEN_CLIP_PAD }
}
