import { basename, dirname, join } from 'node:path'
import { isFile } from '../models/tokenizer-files.js'
import type { ImageProjectionConfig, IpAdapterConfig } from '../native.js'
import { matchTensors, renameTensors, type Tensors } from '../models/component.js'
import { kindByNames } from '../models/families/unsupported-models.js'
import { requiredTensors } from '../models/families/required-tensors.js'
import { badFormat, unsupported } from '../models/formats/fail.js'
import type { TensorFile } from '../models/formats/tensor-file.js'
import { openImageEncoder, type ImageEncoderDescription } from '../models/image-encoder.js'
import { openTensorFile, type ComponentDescription, type ModelDescription } from '../models/index.js'
import { rowsOf } from '../models/names/fused.js'
import { quote } from '../quote.js'
import { applyFaceLora, isFaceLora } from './face-lora.js'
import { WIDTHS } from './family.js'
import type { AdapterReport } from './lora.js'

/** The `kind` of IP-Adapters in reports. */
export const IP_ADAPTER = 'IP-Adapter'

/** An IP-Adapter file, and where its image encoder is. */
export interface IpAdapterSetting {
  path: string
  /** Default: `image_encoder` beside the file or in the model's folder. */
  imageEncoder?: string
  /** Of FaceID Plus: whether it is version 2. Default: whether the file's name says `plusv2`. */
  shortcut?: boolean
}

/**
 * What an IP-Adapter takes: the embedding of a CLIP image encoder, its hidden states ('plus' and 'full face'), the
 * embedding of a face that a face recognizer has made ('FaceID'), or that and the hidden states of a picture of the face
 * ('FaceID Plus').
 */
export type IpAdapterInput = 'embedding' | 'hidden' | 'face' | 'face-picture'

/** A stored IP-Adapter. */
export interface IpAdapterDescription extends ComponentDescription<IpAdapterConfig> {
  path: string
  input: IpAdapterInput
  /** Undefined: none was found, or it takes faces. Adapters of the same path share the object. */
  encoder?: ImageEncoderDescription
}

type ModelWithUnet = ModelDescription & Required<Pick<ModelDescription, 'unet'>>

/**
 * Reads the headers of IP-Adapters and of their image encoders. The LoRA in a FaceID file becomes part of the model.
 *
 * @throws {DiffusionError} MODEL_NOT_FOUND, MODEL_FORMAT, MODEL_SHAPE, IO; UNSUPPORTED_MODEL: the file is no IP-Adapter,
 *   or belongs to a model of another family
 * @throws {TypeError} a `shortcut` for a file that is not FaceID Plus
 */
export async function openIpAdapters(
  model: ModelWithUnet,
  settings: readonly IpAdapterSetting[],
): Promise<{ ipAdapters: IpAdapterDescription[]; reports: AdapterReport[] }> {
  const encoders = new Map<string, ImageEncoderDescription>()
  const ipAdapters: IpAdapterDescription[] = []
  const reports: AdapterReport[] = []
  for (const [i, { path, imageEncoder, shortcut }] of settings.entries()) {
    const file = await openTensorFile(path)
    const adapter = describe(path, file, model, shortcut ?? /plus-?v2/i.test(basename(path)))
    if (shortcut !== undefined && adapter.input !== 'face-picture')
      throw new TypeError(`Expected no ipAdapters[${i}].shortcut, as ${path} is not FaceID Plus`)
    if (adapter.input !== 'face') {
      const encoder = await findEncoder(adapter, imageEncoder, model, encoders)
      if (encoder) adapter.encoder = encoder
    }
    const lora = applyFaceLora(model, path, file)
    ipAdapters.push(adapter)
    const { ranks, applied, unplaced } = lora ?? { ranks: [], applied: 0, unplaced: [] }
    const own = adapter.source.tensors.length
    reports.push({ path, kind: IP_ADAPTER, scale: 1, ranks, applied: own + applied, unplaced })
  }
  return { ipAdapters, reports }
}

function describe(
  path: string,
  file: TensorFile,
  model: ModelWithUnet,
  shortcut: boolean,
): IpAdapterDescription {
  const { unet, architecture } = model
  const all = [...file.tensors.keys()]
  if (
    !all.some((name) => name.startsWith('image_proj.')) ||
    !all.some((name) => name.startsWith('ip_adapter.'))
  ) {
    const kind = kindByNames(file.tensors)
    throw unsupported(
      path,
      kind === undefined || kind.startsWith('an IP-Adapter')
        ? 'this is not an IP-Adapter: expected tensors whose names begin with image_proj and ip_adapter'
        : `this is not an IP-Adapter: it is ${kind}`,
    )
  }
  const { projection, input } = readProjection(path, file.tensors, shortcut)
  const names = rename(path, file.tensors)
  const config: IpAdapterConfig = { projection, unet: unet.config }
  if (unet.config.onlyCrossAttention?.includes(1))
    throw unsupported(path, `IP-Adapters are not supported for this kind of model, ${architecture}`)
  checkFamily(path, config, file.tensors, architecture)
  const required = requiredTensors(path, 'ipAdapter', config)
  const wanted = required.filter(({ name }) => name.endsWith('.to_k_ip.weight')).length
  const found = [...names.keys()].filter((name) => name.endsWith('.to_k_ip.weight')).length
  if (wanted !== found)
    throw unsupported(
      path,
      `this IP-Adapter was made for another model than ${architecture}: expected ${wanted} attentions, found ${found}`,
    )
  return { path, config, input, source: matchTensors(path, [file], names, required, true) }
}

/** Refuses an IP-Adapter for another width of the context by the name of its family. */
function checkFamily(
  path: string,
  { projection, unet }: IpAdapterConfig,
  tensors: Tensors,
  architecture: string,
): void {
  const width = tensors.get('ip_adapter.1.to_k_ip.weight')?.shape[1] ?? projection.contextWidth
  if (width === unet.contextWidth && projection.contextWidth === width) return
  const family = WIDTHS.get(width)
  const is = family === undefined ? 'was made for another model' : `is for ${family}`
  throw unsupported(
    path,
    `this IP-Adapter ${is}, and the model is ${architecture}: expected a context of a width of ${unet.contextWidth}, ` +
      `found ${width === unet.contextWidth ? projection.contextWidth : width}`,
  )
}

/** The width of a head of the resamplers, which no file tells. */
const HEAD_DIM = 64

const PROJECTION = 'image_proj.'

/** The projection of an image's embedding, by the names and shapes of its tensors. */
function readProjection(
  path: string,
  tensors: Tensors,
  shortcut: boolean,
): { projection: ImageProjectionConfig; input: IpAdapterInput } {
  const has = (name: string) => tensors.has(PROJECTION + name)
  const shape = (name: string, rank: number): readonly number[] => {
    const tensor = tensors.get(PROJECTION + name)
    if (!tensor) throw badFormat(path, `tensor ${PROJECTION}${name} is missing`)
    if (tensor.shape.length !== rank || tensor.shape.includes(0))
      throw badFormat(
        path,
        `tensor ${quote(tensor.name)}: expected ${rank} dimensions above 0, found [${tensor.shape}]`,
      )
    return tensor.shape
  }
  const wholes = (rows: number, of: number, name: string) => {
    if (rows % of !== 0)
      throw badFormat(path, `tensor ${PROJECTION}${name}: expected a multiple of ${of} rows, found ${rows}`)
    return rows / of
  }
  const resampler = (stem: string) => {
    let layers = 0
    while (has(`${stem}layers.${layers}.0.to_q.weight`)) layers++
    const first = `${stem}layers.0.0.to_q.weight`
    if (layers === 0) throw badFormat(path, `tensor ${PROJECTION}${first} is missing`)
    return {
      width: shape(`${stem}proj_in.weight`, 2)[1],
      contextWidth: shape(`${stem}proj_out.weight`, 2)[0],
      layers,
      heads: wholes(shape(first, 2)[0], HEAD_DIM, first),
      headDim: HEAD_DIM,
      intermediate: shape(`${stem}layers.0.1.1.weight`, 2)[0],
    }
  }
  if (has('perceiver_resampler.proj_in.weight')) {
    const [faceHidden, faceWidth] = shape('proj.0.weight', 2)
    const [hidden] = shape('norm.weight', 1)
    const tokens = wholes(shape('proj.2.weight', 2)[0], hidden, 'proj.2.weight')
    const facts = resampler('perceiver_resampler.')
    if (shortcut && hidden !== facts.contextWidth)
      throw badFormat(path, `expected tokens of a width of ${facts.contextWidth}, found ${hidden}`)
    return {
      projection: { kind: 'faceResampler', ...facts, tokens, hidden, faceWidth, faceHidden, shortcut },
      input: 'face-picture',
    }
  }
  if (has('latents')) {
    const [, tokens, hidden] = shape('latents', 3)
    return { projection: { kind: 'resampler', ...resampler(''), tokens, hidden }, input: 'hidden' }
  }
  if (has('proj.weight')) {
    const [rows, width] = shape('proj.weight', 2)
    const [contextWidth] = shape('norm.weight', 1)
    const tokens = wholes(rows, contextWidth, 'proj.weight')
    return { projection: { kind: 'linear', width, contextWidth, tokens }, input: 'embedding' }
  }
  const full = has('proj.3.weight')
  if (!full && !has('norm.weight'))
    throw unsupported(path, 'this IP-Adapter has a projection of images that node-diffusion does not know')
  const [hidden, width] = shape('proj.0.weight', 2)
  const [contextWidth] = shape(full ? 'proj.3.weight' : 'norm.weight', 1)
  const tokens = wholes(shape('proj.2.weight', 2)[0], contextWidth, 'proj.2.weight')
  return {
    projection: { kind: 'mlp', width, contextWidth, tokens, hidden },
    input: full ? 'hidden' : 'face',
  }
}

/** To the engine's names, where keys and values of the resampler are two matrices, and norms are called so. */
function rename(path: string, tensors: Tensors): Tensors {
  const renamed = renameTensors([path], tensors, (name) =>
    isFaceLora(name) ? undefined : name.replace(/^image_proj\.proj\.3\./, 'image_proj.norm.'),
  )
  for (const [name, tensor] of [...renamed]) {
    const fused = /^(image_proj\.(?:perceiver_resampler\.)?layers\.\d+\.0\.)to_kv\.weight$/.exec(name)
    if (fused) {
      renamed.delete(name)
      for (const [i, part] of ['to_k', 'to_v'].entries())
        renamed.set(`${fused[1]}${part}.weight`, rowsOf([path], tensor, i, ['keys', 'values']))
    } else if (name === 'image_proj.latents') {
      renamed.set(name, { ...tensor, shape: tensor.shape.slice(1) })
    }
  }
  return renamed
}

/** The image encoder that was given, or one that fits beside the adapter or in the model's folder. */
async function findEncoder(
  adapter: IpAdapterDescription,
  given: string | undefined,
  model: ModelDescription,
  known: Map<string, ImageEncoderDescription>,
): Promise<ImageEncoderDescription | undefined> {
  const open = async (path: string) => {
    const encoder = known.get(path) ?? (await openImageEncoder(path))
    known.set(path, encoder)
    return encoder
  }
  const { path, input, config } = adapter
  const { width } = config.projection
  const widthOf = ({ config }: ImageEncoderDescription) =>
    input === 'embedding' ? config.projectionWidth : config.width
  if (given !== undefined) {
    const encoder = await open(given)
    if (widthOf(encoder) === width) return encoder
    const what = input === 'embedding' ? 'embeddings' : 'hidden states'
    throw unsupported(
      given,
      `this image encoder does not fit ${path}: expected ${what} of a width of ${width}, found ${widthOf(encoder)}`,
    )
  }
  // The authors' repository has the encoder of some adapters for SDXL in the folder of those for SD 1.5.
  const beside = dirname(path)
  const folders = [join(beside, 'image_encoder'), join(beside, '..', 'models', 'image_encoder')]
  if (model.format === 'diffusers') folders.push(join(model.path, 'image_encoder'))
  for (const folder of folders) {
    if (!(await isFile(join(folder, 'config.json')))) continue
    const encoder = await open(folder)
    if (widthOf(encoder) === width) return encoder
  }
  return undefined
}

/** Tokens that so many images are together, of embeddings of `rows` tokens each. */
export function promptTokens({ projection }: IpAdapterConfig, images: number, rows: number): number {
  const resamples = projection.kind === 'resampler' || projection.kind === 'faceResampler'
  return images * (resamples ? projection.tokens : rows * projection.tokens)
}
