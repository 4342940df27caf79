/** What `DiffusionPipeline.estimate()` says, beside what it is about. */
import { unet, vaeDecode } from './forward.mjs'
import { library } from './support.mjs'

/** One guided step and one decode: seconds as estimated, then the best of --repeat runs. */
export async function estimate(options) {
  const { model, precision, size } = options
  const { DiffusionPipeline } = await library()
  const { seconds: estimated } = await DiffusionPipeline.estimate(
    model,
    { precision, lowMemory: false },
    { width: size, height: size, guidanceScale: 7.5 },
  )
  const step = await unet({ ...options, batch: 2 })
  const decode = await vaeDecode(options)
  return {
    estimatedStepSeconds: estimated.step,
    stepSeconds: step.seconds,
    estimatedDecodeSeconds: estimated.decode,
    decodeSeconds: decode.seconds,
  }
}
