/** A LoRA of rank 32 at load, and for one call. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { writeRandomLora } from '../../tools/bench/random_lora.mjs'
import { best, library, seconds, warmPages } from './support.mjs'
import { openModel } from '../../dist/models/index.js'

/** What a LoRA of the linear layers adds to loading, and to a call before and in its steps. */
export async function lora({ model, size, repeat, steps = 2 }) {
  const { DiffusionPipeline } = await library()
  const folder = mkdtempSync(join(tmpdir(), 'node-diffusion-bench-'))
  try {
    const file = join(folder, 'lora.safetensors')
    const layers = await writeRandomLora(model, file)
    await warmPages(await openModel(model))
    const load = (loras) =>
      best(repeat, async () => {
        const pipe = await DiffusionPipeline.load(model, { device: 'cpu', loras })
        await pipe.dispose()
      })
    const [plainLoad, loraLoad] = [await load([]), await load([file])]
    const pipe = await DiffusionPipeline.load(model, { device: 'cpu' })
    // The time before the steps is that of the whole call without what it measures itself.
    const call = async (loras) => {
      const request = {
        prompt: 'a cat',
        steps,
        seed: 1,
        width: size,
        height: size,
        outputType: 'latents',
        loras,
      }
      let timings
      const whole = await seconds(async () => ({ timings } = await pipe.generate(request)))
      return { before: whole - timings.total / 1000, step: timings.denoise / 1000 / steps }
    }
    const runs = { plain: [], lora: [] }
    await call([])
    for (let i = 0; i < repeat; i++) {
      runs.plain.push(await call([]))
      runs.lora.push(await call([file]))
    }
    await pipe.dispose()
    const least = (list, key) => Math.min(...list.map((one) => one[key]))
    return {
      layers,
      loadSeconds: plainLoad,
      loadWithLoraSeconds: loraLoad,
      callSeconds: least(runs.lora, 'before') - least(runs.plain, 'before'),
      stepSeconds: least(runs.plain, 'step'),
      stepWithLoraSeconds: least(runs.lora, 'step'),
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
