/** Behaviour in a long-running process: memory over time, the event loop, cancellation. */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { library, median, seconds } from './support.mjs'

/** Resident set size after the first tenth of many generations, and after all of them. */
export async function rssFlat({ generations = 100 }) {
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

/** Delay of the event loop while a picture is drawn: 99th percentile and maximum. */
export async function eventLoop({ model, size, steps = 4 }) {
  const { DiffusionPipeline } = await library()
  const pipe = await DiffusionPipeline.load(model)
  const request = { prompt: 'noto pizza', steps, seed: 1, ...(model ? { width: size, height: size } : {}) }
  await pipe.generate({ ...request, steps: 1 }) // so that JavaScript is compiled before the measurement
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  const time = await seconds(() => pipe.generate(request))
  delay.disable()
  await pipe.dispose()
  // The histogram includes the period of its own timer.
  const late = (nanoseconds) => Math.max(0, nanoseconds / 1e6 - 1)
  return { seconds: time, delayP99Ms: late(delay.percentile(99)), delayMaxMs: late(delay.max) }
}

/**
 * What looking for a GPU costs where there is no driver: CPU time of all threads, which a busy machine does not change much.
 * Loads with `device: 'auto'` and `'cpu'` take turns.
 */
export async function deviceDetection({ tries = 30 }) {
  process.env.NODE_DIFFUSION_CUDA_DRIVER ??= 'none'
  const { DiffusionPipeline, listDevices } = await library()
  const cpuMs = async (work) => {
    const before = process.cpuUsage()
    await work()
    const { user, system } = process.cpuUsage(before)
    return (user + system) / 1000
  }
  const load = (device) => async () => (await DiffusionPipeline.load(undefined, { device })).dispose()
  await load('cpu')() // what a first load alone takes
  const firstMs = await cpuMs(listDevices)
  const pairs = []
  for (let i = 0; i < tries; i++) {
    const order = i % 2 ? ['auto', 'cpu'] : ['cpu', 'auto']
    const times = {}
    for (const device of order) times[device] = await cpuMs(load(device))
    pairs.push(times)
  }
  return {
    firstMs,
    againMs: median(await inTurn(tries, () => cpuMs(listDevices))),
    autoLessCpuMs: median(pairs.map(({ auto, cpu }) => auto - cpu)),
    autoByCpu: median(pairs.map(({ auto, cpu }) => auto / cpu)),
  }
}

async function inTurn(count, work) {
  const results = []
  for (let i = 0; i < count; i++) results.push(await work())
  return results
}

/** Time from abort() to the rejection, at moments spread over a run. */
export async function abort({ model, size, tries = 20 }) {
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
