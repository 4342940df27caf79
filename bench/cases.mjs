/**
 * What is measured. Every case has a title, says whether it needs a full-size model (--model), and runs in a process of
 * its own; it resolves to figures whose names tell their units. Times are the best of --repeat after one run that warms
 * up, unless the title says otherwise.
 */
import { createReadStream } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { native } from '../dist/native.js'
import { openModel } from '../dist/weights/index.js'

/** The public entry is loaded where it is measured: its own cost belongs to the process start. */
const library = () => import('../dist/index.js')

async function seconds(work) {
  const began = performance.now()
  await work()
  return (performance.now() - began) / 1000
}

async function best(repeat, work) {
  await work()
  let shortest = Infinity
  for (let i = 0; i < repeat; i++) shortest = Math.min(shortest, await seconds(work))
  return shortest
}

/** Normal-like numbers: what they are does not matter to the time, but subnormal or huge ones would. */
function noise(count) {
  const data = new Float32Array(count)
  for (let i = 0; i < count; i++) data[i] = 1.7 * (Math.random() + Math.random() - 1)
  return data
}

const loaders = {
  textEncoder: (part, precision) => native().loadTextEncoder(part.config, { ...part.source, precision }),
  unet: (part, precision) => native().loadUnet(part.config, { ...part.source, precision }),
  vae: (part, precision) => native().loadVae(part.config, { ...part.source, precision }),
}

async function component(path, name, precision) {
  const model = await openModel(path)
  if (!model[name]) throw new Error(`${path} has no ${name}`)
  return { part: await loaders[name](model[name], precision), config: model[name].config }
}

/** Reads the model's files once, so that they lie in the page cache. */
async function warmPages(model) {
  const files = new Set(Object.keys(loaders).flatMap((name) => model[name]?.source.files ?? []))
  for (const file of files)
    for await (const chunk of createReadStream(file, { highWaterMark: 1 << 22 })) void chunk
}

async function text({ model, precision, repeat, batch }) {
  const { part, config } = await component(model, 'textEncoder', precision)
  const tokens = Int32Array.from({ length: batch * 77 }, () => Math.floor(Math.random() * config.vocabSize))
  return {
    seconds: await best(repeat, () => part.encode(tokens, batch, 77, 0)),
    weightBytes: part.weightBytes,
  }
}

async function unet({ model, precision, repeat, batch, size }) {
  const { part, config } = await component(model, 'unet', precision)
  const side = size / 8
  const latents = noise(batch * config.inChannels * side * side)
  const context = noise(batch * 77 * config.contextWidth)
  const timesteps = new Float32Array(batch).fill(500)
  const predict = () => part.predict(latents, batch, side, side, timesteps, context, 77)
  const workingBytes = part.workingBytes(batch, side, side, 77)
  return { seconds: await best(repeat, predict), weightBytes: part.weightBytes, workingBytes }
}

async function vaeDecode({ model, precision, repeat, size }) {
  const { part, config } = await component(model, 'vae', precision)
  const side = size / 8
  const latents = noise(config.latentChannels * side * side)
  const figures = { weightBytes: part.weightBytes, workingBytes: part.decodeBytes(1, side, side, null) }
  return {
    seconds: await best(Math.min(repeat, 2), () => part.decode(latents, 1, side, side, null)),
    ...figures,
  }
}

async function vaeEncode({ model, precision, repeat, size }) {
  const { part, config } = await component(model, 'vae', precision)
  const image = noise(config.inChannels * size * size)
  const figures = { weightBytes: part.weightBytes, workingBytes: part.encodeBytes(1, size, size, null) }
  return {
    seconds: await best(Math.min(repeat, 2), () => part.encode(image, 1, size, size, null)),
    ...figures,
  }
}

async function load({ model, precision }) {
  const description = await openModel(model)
  await warmPages(description)
  let weightBytes = 0
  // Twice: where a hypervisor has taken the machine's memory back, the first use of each page measures the hypervisor.
  const time = await best(2, async () => {
    const again = await openModel(model)
    const parts = [] // held, so that the peak is that of all of them together
    for (const name of Object.keys(loaders))
      if (again[name]) parts.push(await loaders[name](again[name], precision))
    weightBytes = parts.reduce((sum, part) => sum + part.weightBytes, 0)
    for (const part of parts) part.dispose()
  })
  return { seconds: time, weightBytes }
}

/** The model in the box from process start: run.mjs times the process from outside as well. */
async function box({ steps = 20 }) {
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

/** A whole picture of a full-size model: peak memory against the weights. */
async function memoryGenerate({ model, size }) {
  const { DiffusionPipeline } = await library()
  const pipe = await DiffusionPipeline.load(model)
  const weightBytes = pipe.unet.weightBytes + pipe.vae.weightBytes + pipe.textEncoder.weightBytes
  const time = await seconds(() =>
    pipe.generate({ prompt: 'a lighthouse', steps: 2, width: size, height: size, seed: 1 }),
  )
  await pipe.dispose()
  return { seconds: time, weightBytes, boundBytes: weightBytes + 700e6 }
}

async function memoryDecode({ model }) {
  const { AutoencoderKL } = await library()
  const vae = await AutoencoderKL.load(model)
  const latents = { data: noise(4 * 128 * 128), shape: [1, 4, 128, 128] }
  const time = await seconds(() => vae.decode(latents))
  return { seconds: time, weightBytes: vae.weightBytes, boundBytes: vae.weightBytes + 700e6 }
}

/** Resident size after the first tenth and after all of many generations. */
async function rssFlat({ generations = 100 }) {
  const { DiffusionPipeline } = await library()
  const pipe = await DiffusionPipeline.load()
  const at = []
  for (let i = 1; i <= generations; i++) {
    await pipe.generate({ prompt: `noto pizza ${i}`, steps: 2, seed: i })
    if (i % Math.ceil(generations / 10) === 0) {
      globalThis.gc?.()
      await sleep(10)
      at.push(process.memoryUsage.rss())
    }
  }
  await pipe.dispose()
  return { generations, rssFirstBytes: at[0], rssLastBytes: at.at(-1), growthBytes: at.at(-1) - at[0] }
}

/** How long the event loop is held up while a picture is drawn: 99th percentile and longest. */
async function eventLoop({ model, size, steps = 4 }) {
  const { DiffusionPipeline } = await library()
  const pipe = await DiffusionPipeline.load(model)
  const request = { prompt: 'noto pizza', steps, seed: 1, ...(model ? { width: size, height: size } : {}) }
  await pipe.generate({ ...request, steps: 1 }) // without the first run's compilation of JavaScript
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  const time = await seconds(() => pipe.generate(request))
  delay.disable()
  await pipe.dispose()
  // The histogram counts the timer's own period.
  const late = (nanoseconds) => Math.max(0, nanoseconds / 1e6 - 1)
  return { seconds: time, delayP99Ms: late(delay.percentile(99)), delayMaxMs: late(delay.max) }
}

/** From abort() to the rejection, at moments spread over a run. */
async function abort({ model, size, tries = 20 }) {
  const { DiffusionPipeline } = await library()
  const pipe = await DiffusionPipeline.load(model)
  const request = { prompt: 'noto pizza', steps: 2, seed: 1, ...(model ? { width: size, height: size } : {}) }
  const whole = await seconds(() => pipe.generate(request))
  const latencies = []
  for (let i = 0; i < tries; i++) {
    const controller = new AbortController()
    const run = pipe.generate({ ...request, signal: controller.signal }).then(
      () => undefined,
      () => performance.now(),
    )
    await sleep((whole * 1000 * (i + 0.5)) / tries)
    const began = performance.now()
    controller.abort()
    const ended = await run
    if (ended !== undefined && ended >= began) latencies.push(ended - began)
  }
  await pipe.dispose()
  latencies.sort((a, b) => a - b)
  return {
    aborted: latencies.length,
    latencyMedianMs: latencies[latencies.length >> 1],
    latencyMaxMs: latencies.at(-1),
  }
}

const small = (run) => (options) => run({ ...options, model: undefined })

export const cases = {
  load: { title: 'load, from the page cache', full: true, run: load },
  text: { title: 'text encoding, 77 tokens', full: true, run: text },
  unet: { title: 'UNet, one forward', full: true, run: unet },
  'vae-decode': { title: 'VAE decode', full: true, run: vaeDecode },
  'vae-encode': { title: 'VAE encode', full: true, run: vaeEncode },
  'memory-generate': { title: 'a whole picture, 2 steps with guidance', full: true, run: memoryGenerate },
  'memory-decode-1024': { title: 'VAE decode 1024×1024 in tiles, one run', full: true, run: memoryDecode },
  'abort-full': {
    title: 'abort, full-size model',
    full: true,
    run: (o) => abort({ ...o, tries: o.tries ?? 8 }),
  },
  'event-loop-full': {
    title: 'event loop, full-size model',
    full: true,
    run: (o) => eventLoop({ ...o, steps: 2 }),
  },
  box: { title: 'model in the box: process start → PNG, 20 steps', full: false, run: box },
  'rss-flat': { title: 'memory over 100 small pictures', full: false, run: small(rssFlat) },
  'event-loop': {
    title: 'event loop, model in the box',
    full: false,
    run: small((o) => eventLoop({ ...o, steps: 20 })),
  },
  abort: { title: 'abort, model in the box', full: false, run: small(abort) },
}
