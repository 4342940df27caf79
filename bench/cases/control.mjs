/** What a ControlNet adds to a step. */
import { best, library, noise } from './support.mjs'

/**
 * The time of a step with a ControlNet and without, without guidance, so that each is one forward of a batch of one. The
 * picture is embedded and the context's keys and values are computed before the steps.
 */
export async function control({ model, precision, size, repeat, controlNet, steps = 2 }) {
  const { DiffusionPipeline } = await library()
  const given = precision && precision !== 'auto' ? { precision } : {}
  const pipe = await DiffusionPipeline.load(model, { ...given, device: 'cpu', controlNets: [controlNet] })
  const image = {
    data: noise(3 * size * size).map((x) => Math.max(-1, Math.min(1, x))),
    shape: [1, 3, size, size],
  }
  const step = async (controls) => {
    let shortest = Infinity
    const request = {
      prompt: 'a lighthouse',
      steps,
      guidanceScale: 1,
      width: size,
      height: size,
      seed: 1,
      outputType: 'latents',
      controls,
    }
    await best(repeat, async () => {
      const { timings } = await pipe.generate(request)
      shortest = Math.min(shortest, timings.denoise / 1000 / steps)
    })
    return shortest
  }
  const figures = { stepSeconds: await step([]), stepWithControlSeconds: await step([{ image }]) }
  await pipe.dispose()
  return figures
}
