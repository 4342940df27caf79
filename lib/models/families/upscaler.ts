import { join } from 'node:path'
import type { UnetConfig } from '../../native.js'
import type { ModelDescription, ScheduleDescription } from '../model-description.js'
import { isFile } from '../tokenizer-files.js'
import { ConfigReader } from './config-reader.js'
import { extraInputOf } from './extra-input.js'
import { defaultSchedule, scheduleFromDiffusers } from './schedule.js'

/** What is known of the ×4 upscaler (Stability AI's x4-upscaling.yaml) where its files do not say it. */
const BETAS = { betaStart: 0.0001, betaEnd: 0.02, betaSchedule: 'scaled_linear' } as const
const MAX_NOISE_LEVEL = 350

/** The latents of its autoencoder are multiplied by this. */
export const UPSCALER_SCALING_FACTOR = 0.08333

/** How the image that is enlarged gets its noise. */
export type LowResolution = NonNullable<ModelDescription['lowResolution']>

/** Stable Diffusion's latents have four channels. */
export function isUpscaler(unet: Pick<UnetConfig, 'inChannels' | 'classEmbedding'> | undefined): boolean {
  return unet !== undefined && extraInputOf(unet, 4) === 'small-image'
}

export const defaultLowResolution = (): LowResolution => ({
  schedule: { ...defaultSchedule(), ...BETAS },
  maxNoiseLevel: MAX_NOISE_LEVEL,
})

/** The schedule of a single file. */
export const upscalerSchedule = (): ScheduleDescription => ({
  ...defaultSchedule('v_prediction'),
  ...BETAS,
  className: 'DDIMScheduler',
})

/** Reads `low_res_scheduler` and `max_noise_level` of a pipeline's folder. */
export async function readLowResolution(
  folder: string,
  index: ConfigReader | undefined,
): Promise<LowResolution> {
  const path = join(folder, 'low_res_scheduler', 'scheduler_config.json')
  const { schedule, maxNoiseLevel } = defaultLowResolution()
  const read = (await isFile(path)) ? scheduleFromDiffusers(await ConfigReader.read(path)) : schedule
  const last = read.trainTimesteps - 1
  return {
    schedule: read,
    maxNoiseLevel: index?.integer('max_noise_level', Math.min(maxNoiseLevel, last), 0, last) ?? maxNoiseLevel,
  }
}
