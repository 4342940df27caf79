import type { FileHandle } from 'node:fs/promises'
import type { UnetConfig } from '../../native.js'
import type { PredictionType } from '../../types.js'
import type { ScheduleDescription } from '../model-description.js'
import { isLatentUpscaler, latentUpscalerSchedule } from './latent-upscaler.js'
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
  if (isLatentUpscaler(unet)) return { schedule: latentUpscalerSchedule(), assumesPrediction: false }
  if (isUpscaler(unet)) return { schedule: upscalerSchedule(), assumesPrediction: false }
  const zeroSnr =
    file.tensors.has('ztsnr') ||
    isTrue(file.metadata.get('ss_zero_terminal_snr')) ||
    /\bz(ero-?)?t?snr\b/i.test(titleOf(file))
  const said = predictionOf(file)
  const assumed = said === undefined && (await looksLikeVelocity(file, unet))
  const schedule = {
    ...defaultSchedule(said ?? (assumed ? 'v_prediction' : 'epsilon')),
    // What all published models of the SDXL family name.
    ...(unet?.added && { className: 'EulerDiscreteScheduler', timestepSpacing: 'leading' as const }),
  }
  return {
    schedule: zeroSnr ? { ...schedule, rescaleBetasZeroSnr: true, timestepSpacing: 'trailing' } : schedule,
    // Both published unCLIP models, which have a class embedding, predict the velocity.
    assumesPrediction: assumed && unet?.classEmbedding === undefined,
  }
}

/** Whether it is a Stable Diffusion 2 model that is not known to predict the noise. */
async function looksLikeVelocity(file: TensorFile, unet: UnetConfig | undefined): Promise<boolean> {
  if (unet?.contextWidth !== 1024 || unet.inChannels !== 4) return false
  // Of Stable Diffusion 2's files, only SD-Turbo has the names of Stability's later code.
  if (file.tensors.has('conditioner.embedders.0.model.ln_final.weight')) return false
  return (await readGlobalStep(file)) !== BASE_STEPS
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
