import { join } from 'node:path'
import { cancellable } from '../native-call.js'
import { native, type ModelSource, type TensorEntry } from '../native.js'
import { matchTensors, type SourceFile, type Tensors } from './component.js'
import { describeEncoderFile, describeEncoderFolder } from './describe-image-encoder.js'
import { ConfigReader } from './families/config-reader.js'
import { scheduleFromDiffusers } from './families/schedule.js'
import { usualUnclip, type UnclipFacts } from './families/unclip.js'
import { badFormat } from './formats/fail.js'
import type { TensorFile } from './formats/tensor-file.js'
import { readWeights } from './formats/weight-files.js'
import type { UnclipDescription } from './model-description.js'
import { findImageEncoder } from './names/vision.js'
import { isFile } from './tokenizer-files.js'

/** Reads what a model that draws variations of images has beside its UNet, autoencoder and text encoder. */

/**
 * Reads what belongs to a pipeline's folder: `image_encoder`, `feature_extractor`, `image_normalizer` and
 * `image_noising_scheduler`. Each may be missing.
 *
 * @param width of an image's embedding
 */
export async function readUnclipFolder(
  folder: string,
  width: number,
  variant: string | undefined,
): Promise<UnclipDescription> {
  const unclip = usualUnclip()
  const normalizer = join(folder, 'image_normalizer')
  if (await isFile(join(normalizer, 'config.json'))) {
    const { files, tensors } = await readWeights(normalizer, variant)
    unclip.statistics = await readStatistics(normalizer, files, tensors, width)
  }
  const noising = join(folder, 'image_noising_scheduler', 'scheduler_config.json')
  if (await isFile(noising)) unclip.schedule = scheduleFromDiffusers(await ConfigReader.read(noising))
  if (await isFile(join(folder, 'image_encoder', 'config.json')))
    unclip.imageEncoder = await describeEncoderFolder(folder, variant)
  return unclip
}

/**
 * Reads what belongs to a single file. Stability's files do not hold the statistics, which their code reads from another.
 *
 * @param known what the file's metadata say
 */
export async function readUnclipFile(
  file: TensorFile,
  width: number,
  known: UnclipFacts | undefined,
): Promise<UnclipDescription> {
  const { imageEncoder, ...facts } = known ?? usualUnclip()
  const unclip: UnclipDescription = { ...facts }
  const [mean, std] = ['mean', 'std'].map((name) => file.tensors.get(`noise_augmentor.data_${name}`))
  if (mean && std) {
    const tensors: Tensors = new Map([
      ['mean', mean],
      ['std', std],
    ])
    unclip.statistics = await readStatistics(file.path, [file], tensors, width)
  }
  // A UNet alone has no image encoder, and one that the metadata describe must be there.
  if (imageEncoder || findImageEncoder(file.tensors))
    unclip.imageEncoder = describeEncoderFile(file, imageEncoder)
  return unclip
}

async function readStatistics(
  where: string,
  files: readonly SourceFile[],
  tensors: Tensors,
  width: number,
): Promise<NonNullable<UnclipDescription['statistics']>> {
  const required = ['mean', 'std'].map((name) => ({ name, shape: [1, width] }))
  const source = matchTensors(where, files, tensors, required, false)
  const [mean, deviation] = await Promise.all(source.tensors.map((tensor) => readRow(source, tensor)))
  if (!mean.every(Number.isFinite))
    throw badFormat(where, 'tensor mean: expected finite numbers, found others')
  if (!deviation.every((x) => x > 0 && Number.isFinite(x)))
    throw badFormat(where, 'tensor std: expected finite numbers above 0, found others')
  return { mean, deviation }
}

async function readRow({ files, identities }: ModelSource, tensor: TensorEntry): Promise<number[]> {
  const one: ModelSource = { files, ...(identities && { identities }), tensors: [tensor] }
  const { bytes } = await cancellable(undefined, (cancel) =>
    native().convertRows(one, 'f32', false, 0, 1, cancel),
  )
  return Array.from(new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4))
}
