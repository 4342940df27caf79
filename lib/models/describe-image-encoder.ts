import { join } from 'node:path'
import { show } from '../quote.js'
import type { PixelStatistics } from '../types.js'
import { matchTensors, type Tensors } from './component.js'
import { ConfigReader } from './families/config-reader.js'
import { deriveImageEncoder, imageEncoderConfig } from './families/image-encoder.js'
import { requiredTensors } from './families/required-tensors.js'
import { badFormat, unsupported } from './formats/fail.js'
import type { TensorFile } from './formats/tensor-file.js'
import { readWeights } from './formats/weight-files.js'
import type { ImageEncoderDescription } from './model-description.js'
import {
  findImageEncoder,
  renameClipVision,
  renameOpenClipVision,
  VISUAL_PROJECTION,
} from './names/vision.js'
import { isFile } from './tokenizer-files.js'

/** Those of CLIP (Radford et al. 2021). */
const clipStatistics: PixelStatistics = {
  mean: [0.48145466, 0.4578275, 0.40821073],
  deviation: [0.26862954, 0.26130258, 0.27577711],
}

/**
 * An image encoder's folder, or a pipeline's with `image_encoder`.
 *
 * @param variant of the weights to prefer
 */
export async function describeEncoderFolder(
  folder: string,
  variant?: string,
): Promise<ImageEncoderDescription> {
  const inside = join(folder, 'image_encoder')
  const whole = await isFile(join(inside, 'config.json'))
  const encoder = whole ? inside : folder
  const configPath = join(encoder, 'config.json')
  if (!(await isFile(configPath)))
    throw badFormat(
      folder,
      'expected config.json or image_encoder/config.json of an image encoder, found neither',
    )
  const config = await ConfigReader.read(configPath)
  const [name] = config.strings('architectures', [])
  if (!/^CLIP(VisionModelWithProjection|Model)$/.test(name ?? ''))
    throw unsupported(
      configPath,
      `expected CLIPVisionModelWithProjection or CLIPModel, found ${show(config.get('architectures'))}`,
    )
  const parsed = imageEncoderConfig(config)
  const { files, tensors } = await readWeights(encoder, variant)
  const paths = files.map((file) => file.path)
  const required = requiredTensors(configPath, 'imageEncoder', parsed)
  const preprocessor = whole ? join(folder, 'feature_extractor') : folder
  const statistics = await readStatistics(join(preprocessor, 'preprocessor_config.json'))
  return {
    config: parsed,
    source: matchTensors(encoder, files, renameClipVision(paths, tensors), required, false),
    statistics,
  }
}

async function readStatistics(path: string): Promise<PixelStatistics> {
  if (!(await isFile(path))) return clipStatistics
  const config = await ConfigReader.read(path)
  const three = (key: string, fallback: readonly number[], lowest: number) =>
    config.get(key) === undefined ? fallback : config.numbers(key, lowest, 1, 3, 3)
  return {
    mean: three('image_mean', clipStatistics.mean, 0),
    deviation: three('image_std', clipStatistics.deviation, 1e-3),
  }
}

/**
 * The image encoder among the tensors of a file.
 *
 * @param known what the file's metadata say of it
 */
export function describeEncoderFile(
  file: TensorFile,
  known?: Pick<ImageEncoderDescription, 'config' | 'statistics'>,
): ImageEncoderDescription {
  const { path } = file
  const found = findImageEncoder(file.tensors)
  if (!found) {
    const names = [...file.tensors.keys()].slice(0, 3).map((name) => show(name))
    throw unsupported(
      path,
      `expected the tensors of a CLIP image encoder, found ${names.length > 0 ? names.join(', ') : 'none'}`,
    )
  }
  const rename = found.openClip ? renameOpenClipVision : renameClipVision
  const tensors: Tensors = rename([path], found.tensors)
  const transposed = tensors.get(VISUAL_PROJECTION)?.name.endsWith('proj') === true
  const config = known?.config ?? deriveImageEncoder(path, tensors, transposed)
  const required = requiredTensors(path, 'imageEncoder', config)
  const statistics = known?.statistics ?? clipStatistics
  return { config, source: matchTensors(path, [file], tensors, required, false), statistics }
}
