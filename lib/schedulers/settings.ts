import type { PredictionType } from '../types.js'
import type { SigmaSpacing, Spacing } from './sigmas.js'
import type { TrainingSchedule } from './training-schedule.js'

/** The settings of a sampling method: the schedule, and the caller's options with all defaults filled in. */
export interface SchedulerSettings {
  steps: number
  training: TrainingSchedule
  cosine: boolean
  predictionType: PredictionType
  spacing: Spacing
  stepsOffset: number
  setAlphaToOne: boolean
  clipSample: boolean
  sigmas: SigmaSpacing | undefined
  finalSigmasType: 'zero' | 'sigma_min'
  eta: number
  order: number
  solverType: 'midpoint' | 'heun' | 'bh1' | 'bh2'
  lowerOrderFinal: boolean
  eulerAtFinal: boolean
  skipPrkSteps: boolean
  varianceType: 'fixed_small' | 'fixed_large'
  originalInferenceSteps: number
  timesteps: readonly number[] | undefined
}
