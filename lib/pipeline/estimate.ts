/** How long a run takes: the operations of the model's layers, times the rates of this machine. */
import { native, type ProfileRow } from '../native.js'
import type { ModelDescription } from '../models/model-description.js'
import type { GenerateRequest } from '../options/index.js'
import {
  activationBytes,
  nameOf,
  STREAMED,
  unetRates,
  vaeRates,
  type LatentSize,
  type Rates,
} from './calibration.js'
import { controlBytes } from './controls.js'
import { makeScheduler } from './generate.js'
import { imagePromptLengths } from './image-prompts.js'
import type { MemoryNeeded } from './memory-plan.js'
import type { Parts } from './parts.js'
import { rowsPerImage } from './prompt.js'

/** Seconds of a run on this machine. */
export interface SecondsNeeded {
  /** Encoding the prompts. */
  text: number
  /** One prediction of the UNet for all images, with its ControlNets. */
  step: number
  /** All predictions. */
  denoise: number
  /** Decoding all images. */
  decode: number
  total: number
}

/** What a run takes. */
export interface Estimate {
  memory: MemoryNeeded
  seconds: SecondsNeeded
}

/** What a run takes on a GPU. Its time is not known: no measurements on enough GPUs are there to base it on. */
export interface DeviceEstimate {
  /** Of the GPU. */
  memory: MemoryNeeded
  seconds?: undefined
}

/** @param parts the planned components of the model */
export async function secondsNeeded(
  parts: Parts,
  { unet, vae }: ModelDescription,
  request: GenerateRequest,
  length: number,
  signal: AbortSignal | undefined,
): Promise<SecondsNeeded> {
  const { count, tokenMerging } = request
  const [h, w] = [request.height / parts.vae.factor, request.width / parts.vae.factor]
  const size: LatentSize = { n: rowsPerImage(request) * count, h, w }
  const imageLengths = imagePromptLengths(parts.ipAdapters, request)
  const work = (measure: () => void) => native().countWork(measure)
  const step = work(() => {
    parts.unet.workingBytes(size.n, h, w, length, { tokenMerging, imageLengths })
    if (request.controls.length > 0) controlBytes(parts.controlNets, request, size.n, length)
  })
  const rows = rowsPerImage(request) > 1 ? 2 * count : count
  const text = work(() => {
    for (const encoder of parts.textEncoders) encoder.workingBytes(Math.min(rows, 2))
  })
  const rates = await unetRates(unet!, size, step, signal)
  const seconds = {
    text: secondsOf(text, rates),
    step: secondsOf(step, rates),
  }
  const denoise = seconds.step * makeScheduler(parts, request).timesteps.length
  const decode = count * (await decodeSeconds(parts, { vae }, request, { h, w }, rates, signal))
  return { ...seconds, denoise, decode, total: seconds.text + denoise + decode }
}

async function decodeSeconds(
  parts: Parts,
  { vae }: Pick<ModelDescription, 'vae'>,
  { decoder, outputType }: GenerateRequest,
  { h, w }: { h: number; w: number },
  unetRates: Rates,
  signal: AbortSignal | undefined,
): Promise<number> {
  if (outputType === 'latents') return 0
  const decoding = decoder === 'tiny' ? parts.tinyVae! : parts.vae
  const work = native().countWork(() => decoding.decodeBytes(h, w, false))
  const rates = vae && decoder !== 'tiny' ? await vaeRates(vae, { h, w }, work, signal) : unetRates
  return secondsOf(work, rates)
}

function secondsOf(work: readonly ProfileRow[], rates: Rates): number {
  let seconds = activationBytes(work) * rates.bytes + rates.call
  for (const row of work) {
    if (row.kind === STREAMED) seconds += row.bytes * rates.streamed
    if (row.operations > 0) seconds += row.operations * rateOf(row, rates)
  }
  return seconds
}

/** A kind of layer that was not measured is as fast as the slowest with its type, or else as the slowest of all. */
function rateOf(row: ProfileRow, { operations }: Rates): number {
  const known = operations.get(nameOf(row))
  if (known !== undefined) return known
  const all = [...operations]
  const same = all.filter(([name]) => name.endsWith(` ${row.compute}`))
  return Math.max(0, ...(same.length > 0 ? same : all).map(([, rate]) => rate))
}
