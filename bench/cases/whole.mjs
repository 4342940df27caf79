/** From a file to a picture: loading, peak memory of a whole run, process start to PNG. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openModel } from '../../dist/models/index.js'
import { best, library, loaders, noise, partsOf, seconds, warmPages } from './support.mjs'

const given = (precision) => (precision && precision !== 'auto' ? { precision } : {})

/**
 * Loading from the page cache: the three components, and (`firstStepSeconds`) everything up to the first denoising step,
 * including encoding the prompt. The shorter of two runs counts: where a hypervisor has reclaimed memory, the first use of
 * each page measures the hypervisor.
 */
export async function load({ model, precision, size }) {
  const { DiffusionPipeline } = await library()
  await warmPages(await openModel(model))
  let weightBytes = 0
  const components = async () => {
    const again = await openModel(model)
    const parts = [] // kept, so that the peak is that of all components together
    for (const name of Object.keys(loaders))
      for (const part of partsOf(again, name)) parts.push(await loaders[name](part, precision))
    weightBytes = parts.reduce((sum, part) => sum + part.weightBytes, 0)
    for (const part of parts) await part.dispose()
  }
  const toFirstStep = async () => {
    const began = performance.now()
    const pipe = await DiffusionPipeline.load(model, given(precision))
    let started
    const scheduler = {
      timesteps: [500, 1],
      initNoiseSigma: 1,
      scaleModelInput(latents) {
        started ??= performance.now()
        stop.abort()
        return latents
      },
      step: (prediction, timestep, latents) => latents,
      addNoise: (latents) => latents,
    }
    const stop = new AbortController()
    const request = {
      prompt: 'a lighthouse',
      width: size,
      height: size,
      seed: 1,
      scheduler,
      signal: stop.signal,
    }
    await pipe.generate(request).catch((error) => {
      if (started === undefined) throw error
    })
    await pipe.dispose()
    return (started - began) / 1000
  }
  const times = []
  for (let i = 0; i < 2; i++) times.push([await seconds(components), await toFirstStep()])
  return {
    seconds: Math.min(...times.map(([parts]) => parts)),
    firstStepSeconds: Math.min(...times.map(([, step]) => step)),
    weightBytes,
  }
}

/** A whole picture of a full-size model in two steps with guidance. More steps would have the same peak. */
export async function memory({ model, precision, size, lowMemory }) {
  const { DiffusionPipeline } = await library()
  const pipe = await DiffusionPipeline.load(model, {
    ...given(precision),
    ...(lowMemory ? { lowMemory } : {}),
  })
  const weightBytes = pipe.unet.weightBytes + pipe.vae.weightBytes + pipe.textEncoder.weightBytes
  const time = await seconds(() =>
    pipe.generate({ prompt: 'a lighthouse', steps: 2, width: size, height: size, seed: 1 }),
  )
  await pipe.dispose()
  return { seconds: time, weightBytes }
}

/** A whole picture without guidance in one step, as of SD-Turbo, decoded by a tiny autoencoder. The model is loaded before. */
export async function turbo({ model, precision, size, repeat, tinyVae }) {
  const { DiffusionPipeline } = await library()
  const pipe = await DiffusionPipeline.load(model, { ...given(precision), vae: tinyVae })
  const options = {
    prompt: 'a lighthouse',
    steps: 1,
    guidanceScale: 0,
    scheduler: 'euler',
    schedulerOptions: { spacing: 'trailing' },
    width: size,
    height: size,
    seed: 1,
  }
  let timings
  const time = await best(repeat, async () => ({ timings } = await pipe.generate(options)))
  const weightBytes = pipe.unet.weightBytes + pipe.tinyVae.weightBytes + pipe.textEncoder.weightBytes
  await pipe.dispose()
  return { seconds: time, timings, weightBytes }
}

export async function memoryDecode({ model, precision, side = 1024 }) {
  const { AutoencoderKL } = await library()
  const vae = await AutoencoderKL.load(model, given(precision))
  const latents = { data: noise((4 * side * side) / 64), shape: [1, 4, side / 8, side / 8] }
  const time = await seconds(() => vae.decode(latents))
  return { seconds: time, weightBytes: vae.weightBytes }
}

/** The bundled model from process start. run.mjs also times the process from outside. */
export async function bundled({ steps = 20 }) {
  const { DiffusionPipeline } = await library()
  const folder = await mkdtemp(join(tmpdir(), 'node-diffusion-bench-'))
  try {
    const pipe = await DiffusionPipeline.load()
    const loaded = performance.now() / 1000 // since the process began
    const { images, timings } = await pipe.generate({ prompt: 'noto pizza', steps, seed: 1 })
    await images[0].toFile(join(folder, 'out.png'))
    const done = performance.now() / 1000
    await pipe.dispose()
    return { secondsToLoaded: loaded, secondsToPng: done, denoiseSeconds: timings.denoise / 1000, steps }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
