/** Reads the fixtures of tools/fixtures/schedulers.py. */
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { SchedulerOptions } from '../../lib/schedulers/index.js'
import type { Random, Tensor } from '../../lib/types.js'
import type { ScheduleDescription } from '../../lib/models/model-description.js'

/** The repository's root: the nearest folder above this file that has a package.json. */
export function root(): string {
  let folder = dirname(fileURLToPath(import.meta.url))
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder)
  return folder
}

const folder = join(root(), 'test', 'fixtures', 'schedulers')

export interface TrajectoryCase {
  name: string
  steps: number
  schedule: string
  /** Whether the reference was computed in double precision. */
  exact?: true
  begin?: number
  options?: SchedulerOptions
  initNoiseSigma: number
  timesteps: (number | null)[]
  sigmas?: number[]
  /** Latents before the first step and after each step, and the estimates of the clean latents. */
  first: Float32Array
  latents: Float32Array[]
  denoised?: Float32Array[]
}

interface StoredCase extends Omit<TrajectoryCase, 'first' | 'latents' | 'denoised'> {
  calls: number
  denoised?: true
}

interface Stored {
  schedules: Record<string, Record<string, unknown>>
  noises: number
  size: number
  cases: StoredCase[]
}

export interface Trajectories {
  start: Tensor
  clean: Tensor
  noises: Float32Array[]
  cases: TrajectoryCase[]
}

const stored = JSON.parse(readFileSync(join(folder, 'trajectories.json'), 'utf8')) as Stored
const side = Math.sqrt(stored.size)

export const tensor = (data: Float32Array): Tensor => ({ data, shape: [1, 1, side, side] })

export function readTrajectories(): Trajectories {
  const bytes = readFileSync(join(folder, 'trajectories.bin'))
  const floats = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length))
  let at = 0
  const next = () => floats.subarray(at, (at += stored.size))
  const many = (count: number) => Array.from({ length: count }, next)
  const [start, clean] = [tensor(next()), tensor(next())]
  const noises = many(stored.noises)
  const cases = stored.cases.map(({ calls, denoised, ...rest }) => ({
    ...rest,
    first: next(),
    latents: many(calls),
    denoised: denoised ? many(calls) : undefined,
  }))
  if (at !== floats.length)
    throw new Error(`trajectories.bin holds ${floats.length} floats, ${at} were expected`)
  return { start, clean, noises, cases }
}

export function readBetaQuantiles(): [a: number, b: number, p: number, x: number][] {
  return JSON.parse(readFileSync(join(folder, 'beta.json'), 'utf8')).quantiles
}

/** The schedules of the fixtures. */
export function scheduleNamed(name: string): ScheduleDescription {
  const config = stored.schedules[name]
  return {
    trainTimesteps: (config.num_train_timesteps as number | undefined) ?? 1000,
    betaStart: config.beta_start as number,
    betaEnd: config.beta_end as number,
    betaSchedule: config.beta_schedule as ScheduleDescription['betaSchedule'],
    trainedBetas: config.trained_betas as number[] | undefined,
    predictionType: 'epsilon',
    stepsOffset: config.steps_offset as number,
    setAlphaToOne: config.set_alpha_to_one as boolean,
    rescaleBetasZeroSnr: config.rescale_betas_zero_snr === true,
    clipSample: config.clip_sample === true,
  }
}

/** A source that returns the stored noise in its order. */
export class StoredNoise implements Random {
  private drawn = 0
  constructor(private readonly noises: Float32Array[]) {}
  normal(shape: readonly number[]): Tensor {
    return { data: this.noises[this.drawn++ % this.noises.length].slice(), shape: [...shape] }
  }
}

/** The function that replaces the UNet, as in the fixture script. */
export function model(latents: Tensor, timestep: number): Tensor {
  const data = latents.data.map(
    (x, i) => 0.8 * Math.sin(1.1 * x + 0.35 * i + 0.003 * timestep) + (0.25 * x) / (1 + Math.abs(x)),
  )
  return { data, shape: latents.shape }
}
