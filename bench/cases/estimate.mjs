/** What `DiffusionPipeline.estimate()` says, beside what it is about. */
import { library } from './support.mjs'

const STEPS = 4

/** A guided step and a decode of `generate()`: seconds as estimated, then the best of two runs. */
export async function estimate({ model, precision, size }) {
  const { DiffusionPipeline } = await library()
  const load = { precision, lowMemory: false, device: 'cpu' }
  const run = { width: size, height: size, guidanceScale: 7.5, steps: STEPS }
  const { seconds: estimated } = await DiffusionPipeline.estimate(model, load, run)
  const pipe = await DiffusionPipeline.load(model, load)
  const measured = { step: Infinity, decode: Infinity }
  for (let i = 0; i < 2; i++) {
    const { timings } = await pipe.generate({ ...run, prompt: 'a lighthouse', seed: 1 })
    measured.step = Math.min(measured.step, timings.denoise / 1000 / STEPS)
    measured.decode = Math.min(measured.decode, timings.decode / 1000)
  }
  await pipe.dispose()
  return {
    estimatedStepSeconds: estimated.step,
    stepSeconds: measured.step,
    estimatedDecodeSeconds: estimated.decode,
    decodeSeconds: measured.decode,
  }
}
