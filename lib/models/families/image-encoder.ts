import type { ImageEncoderConfig } from '../../native.js'
import { quote, show } from '../../quote.js'
import type { Tensors } from '../component.js'
import { badFormat, unsupported } from '../formats/fail.js'
import { VISUAL_PROJECTION } from '../names/vision.js'
import type { ConfigReader } from './config-reader.js'
import { limits } from './limits.js'

/** The configuration of a CLIP image encoder, from config.json or from the shapes of its tensors. */

/** No image encoder takes larger images. */
export const MAX_SIDE = 4096

/** transformers' CLIPVisionConfig, or the `vision_config` of a CLIPConfig. */
export function imageEncoderConfig(outer: ConfigReader): ImageEncoderConfig {
  const c = outer.has('vision_config') ? outer.child('vision_config') : outer
  if (c.has('model_type')) c.choice('model_type', ['clip_vision_model', 'clip'])
  const projection = outer.has('projection_dim') ? outer : c
  return {
    imageSize: c.integer('image_size', 224, 1, MAX_SIDE),
    patchSize: c.integer('patch_size', 32, 1, MAX_SIDE),
    channels: c.integer('num_channels', 3, 3, 3),
    width: c.integer('hidden_size', 768, 1, limits().channels),
    layers: c.integer('num_hidden_layers', 12, 0, limits().textLayers),
    heads: c.integer('num_attention_heads', 12, 1, limits().channels),
    intermediate: c.integer('intermediate_size', 3072, 1, limits().feedForward),
    activation: c.choice('hidden_act', ['quick_gelu', 'gelu'], 'quick_gelu'),
    layerNormEps: c.number('layer_norm_eps', 1e-5, 0, 1),
    projectionWidth: projection.integer('projection_dim', 512, 1, limits().channels),
  }
}

/** Heads by width: of ViT-H, ViT-g and ViT-bigG. Those of others are 64 wide. */
const HEADS: Readonly<Record<number, number>> = { 1280: 16, 1408: 16, 1664: 16 }

/** @param transposed whether the projection is stored [width, projection width] */
export function deriveImageEncoder(path: string, tensors: Tensors, transposed: boolean): ImageEncoderConfig {
  const size = (name: string, dimension: number, max: number) => {
    const tensor = tensors.get(name)
    if (!tensor) throw badFormat(path, `tensor ${name} is missing`)
    const found = tensor.shape[dimension]
    if (found >= 1 && found <= max) return found
    throw badFormat(
      path,
      `tensor ${quote(tensor.name)}: expected dimension ${dimension} from 1 to ${max}, found [${tensor.shape}]`,
    )
  }
  const width = size('embeddings.class_embedding', 0, limits().channels)
  const patchSize = size('embeddings.patch_embedding.weight', 2, MAX_SIDE)
  const positions = size('embeddings.position_embedding.weight', 0, limits().positions)
  const grid = Math.round(Math.sqrt(positions - 1))
  if (grid < 1 || grid * grid !== positions - 1)
    throw unsupported(path, `expected positions of a square image and one more, found ${show(positions)}`)
  let layers = 0
  while (layers < limits().textLayers && tensors.has(`encoder.layers.${layers}.mlp.fc1.weight`)) layers++
  if (layers === 0) throw badFormat(path, 'tensor encoder.layers.0.mlp.fc1.weight is missing')
  const heads = Object.hasOwn(HEADS, width) ? HEADS[width] : width / 64
  if (!Number.isInteger(heads))
    throw unsupported(
      path,
      `the number of attention heads of an image encoder of a width of ${width} is unknown: use its folder with config.json`,
    )
  return {
    imageSize: grid * patchSize,
    patchSize,
    channels: 3,
    width,
    layers,
    heads,
    intermediate: size('encoder.layers.0.mlp.fc1.weight', 0, limits().feedForward),
    // OpenAI trained those up to ViT-L, with its quick GELU.
    activation: width >= 1280 ? 'gelu' : 'quick_gelu',
    layerNormEps: 1e-5,
    projectionWidth: size(VISUAL_PROJECTION, transposed ? 1 : 0, limits().channels),
    ...(transposed && { projectionTransposed: true }),
  }
}
