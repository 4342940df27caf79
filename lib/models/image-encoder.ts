import { resolve } from 'node:path'
import { insideCache } from './cache-folder.js'
import { describeEncoderFile, describeEncoderFolder } from './describe-image-encoder.js'
import { openTensorFile } from './index.js'
import type { ImageEncoderDescription } from './model-description.js'
import { isFolder } from './tokenizer-files.js'

export type { ImageEncoderDescription }

/**
 * Describes a CLIP image encoder: a folder with config.json, a pipeline's folder with `image_encoder`, or a file with the
 * names of transformers or OpenCLIP, also of a whole CLIP.
 *
 * @throws {DiffusionError} MODEL_NOT_FOUND, MODEL_FORMAT, MODEL_SHAPE, IO; UNSUPPORTED_MODEL: it is something else
 */
export async function openImageEncoder(path: string): Promise<ImageEncoderDescription> {
  const description = (await isFolder(path))
    ? await describeEncoderFolder(await insideCache(path))
    : describeEncoderFile(await openTensorFile(path))
  description.source.files = description.source.files.map((file) => resolve(file))
  return description
}
