import type { FileHandle } from 'node:fs/promises'
import type { UnetConfig } from '../../native.js'
import type { PredictionType } from '../../types.js'
import type { ScheduleDescription } from '../model-description.js'
import { defaultSchedule } from './schedule.js'
import { isUpscaler, upscalerSchedule } from './upscaler.js'
import { readExactly, withFile, type TensorFile } from '../formats/tensor-file.js'

/** Number of training steps of Stable Diffusion 2-base, by which diffusers tells it from the v-prediction models. */
const BASE_STEPS = 875_000n

/**
 * The schedule of a single file without a configuration. Names and shapes do not tell what a UNet predicts. So metadata
 * comes first (`modelspec.prediction_type`, kohya's `ss_v_parameterization` and `ss_zero_terminal_snr`, the title, and the
 * empty tensors `v_pred` and `ztsnr` that trainers add). Otherwise,
 * Stable Diffusion 2 with four input channels is assumed to be a v-prediction model, unless its step count is that of the
 * base model.
 */
export async function guessSchedule(
  file: TensorFile,
  unet: UnetConfig | undefined,
): Promise<{ schedule: ScheduleDescription; assumesPrediction: boolean }> {
  if (isUpscaler(unet)) return { schedule: upscalerSchedule(), assumesPrediction: false }
  const zeroSnr =
    file.tensors.has('ztsnr') ||
    isTrue(file.metadata.get('ss_zero_terminal_snr')) ||
    /\bz(ero-?)?t?snr\b/i.test(titleOf(file))
  const { predictionType, assumed } = await guessPrediction(file, unet)
  const schedule = {
    ...defaultSchedule(predictionType),
    // What all published models of the SDXL family name.
    ...(unet?.added && { className: 'EulerDiscreteScheduler', timestepSpacing: 'leading' as const }),
  }
  return {
    schedule: zeroSnr ? { ...schedule, rescaleBetasZeroSnr: true, timestepSpacing: 'trailing' } : schedule,
    assumesPrediction: assumed,
  }
}

async function guessPrediction(
  file: TensorFile,
  unet: UnetConfig | undefined,
): Promise<{ predictionType: PredictionType; assumed: boolean }> {
  const said = predictionOf(file)
  if (said) return { predictionType: said, assumed: false }
  if (unet?.contextWidth !== 1024 || unet.inChannels !== 4)
    return { predictionType: 'epsilon', assumed: false }
  // Of Stable Diffusion 2's files, only SD-Turbo has the names of Stability's later code.
  if (file.tensors.has('conditioner.embedders.0.model.ln_final.weight'))
    return { predictionType: 'epsilon', assumed: false }
  if ((await readGlobalStep(file)) === BASE_STEPS) return { predictionType: 'epsilon', assumed: false }
  // unCLIP, which has a class embedding, is a v-prediction model.
  return { predictionType: 'v_prediction', assumed: unet.classEmbedding === undefined }
}

/** What metadata and marker tensors say. */
function predictionOf(file: TensorFile): PredictionType | undefined {
  const said = file.metadata.get('modelspec.prediction_type')
  if (said === 'v' || said === 'v_prediction') return 'v_prediction'
  if (said === 'epsilon' || said === 'sample') return said
  if (file.tensors.has('v_pred') || isTrue(file.metadata.get('ss_v_parameterization'))) return 'v_prediction'
  if (/(^|[^a-z])v[-_ ]?pred/i.test(titleOf(file))) return 'v_prediction'
  return undefined
}

/** Trainers write texts: `True`. */
const isTrue = (value: unknown) => value === 'True' || value === 'true' || value === true

/** The name that a model has in its metadata. */
function titleOf({ metadata }: TensorFile): string {
  const title = metadata.get('modelspec.title')
  return typeof title === 'string' ? title.slice(0, 1000) : ''
}

async function readGlobalStep(file: TensorFile): Promise<bigint | undefined> {
  const tensor = file.tensors.get('global_step')
  if (!tensor) return undefined
  const read = async (handle: FileHandle, size: number) =>
    tensor.bytes <= 8 && tensor.offset + tensor.bytes <= size
      ? readExactly(file.path, handle, tensor.offset, tensor.bytes)
      : undefined
  const bytes = await withFile(file.path, read, file.identity)
  if (bytes?.length === 8 && tensor.type === 'i64') return bytes.readBigInt64LE()
  if (bytes?.length === 4 && tensor.type === 'i32') return BigInt(bytes.readInt32LE())
  return undefined
}
