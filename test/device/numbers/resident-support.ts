/** Runs of a small model on an emulated GPU, with latents that stay on it, and with steps on the host. */
import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import {
  bundledModelPath,
  createScheduler,
  DiffusionPipeline,
  type GenerateOptions,
  type LoadOptions,
  type Tensor,
} from '../../../lib/index.js'
import { packageRoot } from '../../../lib/package-root.js'
import { emulatedEnvironment, emulatorBuilt, emulatorExpected } from '../emulated.js'

export const skip = !emulatorBuilt && !emulatorExpected
const folder = t.testdir()
const copies = join(folder, 'copies')
if (!skip) Object.assign(process.env, emulatedEnvironment(), { ND_EMULATED_COPIES: copies })

export const conditioned = join(packageRoot(), 'test', 'fixtures', 'conditioned')

/** A small model, whose steps take a tenth of the bundled one's time. */
const model = modelOf('base')
export const load = (options: LoadOptions = {}) =>
  DiffusionPipeline.load(model, { device: 'cuda', ...options })

/** A model of the fixtures that are conditioned on images, with the bundled model's tokenizer. */
export function modelOf(name: string): string {
  const made = join(folder, name)
  cpSync(join(conditioned, name), made, { recursive: true })
  cpSync(join(bundledModelPath(), 'tokenizer'), join(made, 'tokenizer'), { recursive: true })
  return made
}

export const small = { prompt: 'a blue cat', width: 32, height: 32, seed: 5, outputType: 'latents' as const }

export type RunOptions = Omit<GenerateOptions, 'scheduler'> & { steps: number }

export async function latentsOf(pipe: DiffusionPipeline, options: GenerateOptions): Promise<Tensor> {
  return (await pipe.generate({ ...small, ...options })).latents!
}

/** The latents of a run whose scheduler is an object, whose arithmetic is done on the host. */
export function onHost(
  pipe: DiffusionPipeline,
  name: string,
  { schedulerOptions, ...options }: RunOptions,
): Promise<Tensor> {
  const scheduler = createScheduler(name, options.steps, pipe.model.schedule, schedulerOptions)
  return latentsOf(pipe, { ...options, scheduler })
}

/** Copies between host and device while `run` runs: how many, in each direction, of how many bytes. */
export async function copiesOf(
  run: () => Promise<unknown>,
): Promise<{ toDevice: number[]; toHost: number[] }> {
  writeFileSync(copies, '')
  await run()
  const lines = readFileSync(copies, 'utf8').trim().split('\n')
  const bytes = (direction: string) =>
    lines.filter((line) => line.startsWith(direction)).map((line) => Number(line.split(' ')[1]))
  return { toDevice: bytes('to-device'), toHost: bytes('to-host') }
}

/** The memory that is free, once it is `expected`: an aborted run rejects before its memory is free. */
export async function settlesAt(pipe: DiffusionPipeline, expected: number | undefined) {
  for (let i = 0; i < 1000 && pipe.unet.freeDeviceMemory() !== expected; i++)
    await new Promise((resolve) => setTimeout(resolve, 10))
  return pipe.unet.freeDeviceMemory()
}
