/** Settings that the authors of few-step models give with them. */
import type { SchedulerName, SchedulerOptions } from '../schedulers/index.js'

/** The defaults of a run for one kind of model. Options of generate() take their places. */
export interface Preset {
  scheduler: SchedulerName
  schedulerOptions?: SchedulerOptions
  steps: number
  guidanceScale: number
  /** What it is for. */
  about: string
}

export type PresetName =
  | 'turbo'
  | 'lcm'
  | 'tcd'
  | 'lightning'
  | 'lightning-1step'
  | 'hyper'
  | 'hyper-1step'
  | 'hyper-unified'
  | 'dmd2'
  | 'pcm'

const trailing: SchedulerOptions = { spacing: 'trailing' }

/** The model cards' own examples, in the words of diffusers. */
export const presets: Readonly<Record<PresetName, Preset>> = {
  turbo: {
    ...{ scheduler: 'euler-a', schedulerOptions: trailing, steps: 1, guidanceScale: 0 },
    about: 'SDXL-Turbo, SD-Turbo: 1 to 4 steps without guidance',
  },
  lcm: {
    ...{ scheduler: 'lcm', steps: 4, guidanceScale: 1 },
    about: 'latent consistency models and LCM-LoRA: 2 to 8 steps',
  },
  tcd: {
    ...{ scheduler: 'tcd', schedulerOptions: { eta: 0.3 }, steps: 4, guidanceScale: 0 },
    about: 'trajectory consistency distillation: more steps give more detail',
  },
  lightning: {
    ...{ scheduler: 'euler', schedulerOptions: trailing, steps: 4, guidanceScale: 0 },
    about: 'SDXL-Lightning: as many steps as the file is named after, 2, 4 or 8',
  },
  'lightning-1step': {
    ...{ scheduler: 'euler', steps: 1, guidanceScale: 0 },
    schedulerOptions: { ...trailing, predictionType: 'sample' },
    about: 'SDXL-Lightning of one step, whose UNet predicts the image',
  },
  hyper: {
    ...{ scheduler: 'ddim', schedulerOptions: trailing, steps: 4, guidanceScale: 0 },
    about: 'Hyper-SD of 2, 4 or 8 steps',
  },
  'hyper-1step': {
    ...{ scheduler: 'lcm', schedulerOptions: { timesteps: [800] }, steps: 1, guidanceScale: 0 },
    about: "Hyper-SDXL's UNet of one step",
  },
  'hyper-unified': {
    ...{ scheduler: 'tcd', schedulerOptions: { eta: 1 }, steps: 1, guidanceScale: 0 },
    about: "Hyper-SD's unified LoRA: 1 to 8 steps, with less eta for more of them",
  },
  dmd2: {
    ...{ scheduler: 'lcm', steps: 4, guidanceScale: 0 },
    schedulerOptions: { timesteps: [999, 749, 499, 249] },
    about: 'DMD2: 4 steps',
  },
  pcm: {
    ...{ scheduler: 'tcd', schedulerOptions: { eta: 0.3 }, steps: 4, guidanceScale: 0 },
    about: 'phased consistency models: as many steps as the file is named after',
  },
}

export const presetNames = Object.keys(presets) as PresetName[]

/** The guidance scale of latent consistency models that take it as an input: diffusers' LatentConsistencyModelPipeline. */
const EMBEDDED_GUIDANCE = 8.5

/** The preset of a model whose files tell it: by their scheduler's class, or because the guidance is an input. */
export function presetOfFiles(
  className: string | undefined,
  embedsGuidance: boolean,
): PresetName | undefined {
  if (className === 'TCDScheduler') return 'tcd'
  return className === 'LCMScheduler' || embedsGuidance ? 'lcm' : undefined
}

/** Steps and guidance of a preset. */
export function presetDefaults(
  name: PresetName | undefined,
  embedsGuidance = false,
): Partial<Pick<Preset, 'steps' | 'guidanceScale'>> {
  if (name === undefined) return {}
  const { steps, guidanceScale } = presets[name]
  return { steps, guidanceScale: name === 'lcm' && embedsGuidance ? EMBEDDED_GUIDANCE : guidanceScale }
}

/** The scheduler and its options, where the caller gave no other scheduler. */
export function presetScheduler(
  name: PresetName,
  steps: number,
  given: { scheduler?: unknown; schedulerOptions?: SchedulerOptions },
): { scheduler: SchedulerName; schedulerOptions?: SchedulerOptions } | undefined {
  const { scheduler, schedulerOptions = {} } = presets[name]
  if (given.scheduler !== undefined && given.scheduler !== scheduler) return undefined
  const { timesteps, ...rest } = schedulerOptions
  const own = timesteps?.length === steps ? schedulerOptions : rest
  const all = { ...own, ...given.schedulerOptions }
  return { scheduler, ...(Object.keys(all).length > 0 && { schedulerOptions: all }) }
}
