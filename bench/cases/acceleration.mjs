/** The options that trade fidelity for speed: the time that each saves, and how much it changes pictures. */
import { native } from '../../dist/native.js'
import { prompts, psnr } from './quality.mjs'
import { component, library, noise, seconds } from './support.mjs'

const STEPS = 20

/** Options of generate() by their name in the table. */
const settings = {
  'guidanceInterval [0, 0.6]': { guidanceInterval: [0, 0.6] },
  'guidanceInterval [0.2, 0.8]': { guidanceInterval: [0.2, 0.8] },
  'deepCache 2, depth 1': { deepCache: { interval: 2, depth: 1 } },
  'deepCache 2, depth 3': { deepCache: { interval: 2, depth: 3 } },
  'deepCache 3, depth 1': { deepCache: { interval: 3, depth: 1 } },
  'deepCache 3, depth 3': { deepCache: { interval: 3, depth: 3 } },
  'deepCache 5, depth 1': { deepCache: { interval: 5, depth: 1 } },
  'tokenMerging 0.25': { tokenMerging: 0.25 },
  'tokenMerging 0.5': { tokenMerging: 0.5 },
  'tokenMerging 0.75': { tokenMerging: 0.75 },
  'deepCache 3, depth 1 + tokenMerging 0.5': { deepCache: { interval: 3, depth: 1 }, tokenMerging: 0.5 },
  'all three': { guidanceInterval: [0.2, 0.8], deepCache: { interval: 3, depth: 1 }, tokenMerging: 0.5 },
}

/** Counts the UNet calls of a run: with and without guidance, whole and with the shallow layers only. */
function countCalls({ guidanceInterval: [from, to] = [0, 1], deepCache: { interval = 1 } = {} }) {
  const calls = { guidedWhole: 0, guidedShallow: 0, singleWhole: 0, singleShallow: 0 }
  let [before, uses] = ['', 0]
  for (let step = 0; step < STEPS; step++) {
    const kind = from <= step / STEPS && (step + 1) / STEPS <= to ? 'guided' : 'single'
    const shallow = kind === before && uses < interval
    ;[before, uses] = [kind, shallow ? uses + 1 : 1]
    calls[kind + (shallow ? 'Shallow' : 'Whole')]++
  }
  return calls
}

/** The kinds of forward passes in a run, and how many there are of each. */
function forwardsOf({ tokenMerging = 0, deepCache, guidanceInterval }) {
  const { guidedWhole, guidedShallow, singleWhole, singleShallow } = countCalls({
    guidanceInterval,
    deepCache,
  })
  const depth = deepCache?.depth
  return [
    { n: 2, tokenMerging, depth: 0, count: guidedWhole },
    { n: 2, tokenMerging, depth, count: guidedShallow },
    { n: 1, tokenMerging, depth: 0, count: singleWhole },
    { n: 1, tokenMerging, depth, count: singleShallow },
  ].filter(({ count }) => count > 0)
}

const keyOf = ({ n, tokenMerging, depth }) => `batch ${n}, merging ${tokenMerging}, depth ${depth || 'all'}`

/**
 * Times each kind of UNet forward pass that occurs in a run, and adds up 20 steps of them. The kinds take turns and the
 * best of all rounds counts, so that a machine that slows down for a while affects all of them alike.
 */
export async function forwards({ model, precision, repeat, size }) {
  const { part, config } = await component(model, 'unet', precision)
  const side = Math.ceil(size / 8)
  const latents = noise(2 * config.inChannels * side * side)
  const context = noise(2 * 77 * config.contextWidth)
  const deep = new (native().DeepFeatures)()
  const predict = ({ n, tokenMerging, depth }, reuse) =>
    part.predict({
      latents: latents.subarray(0, (latents.length / 2) * n),
      n,
      h: side,
      w: side,
      conditioning: {
        timesteps: new Float32Array(n).fill(500),
        context: context.subarray(0, (context.length / 2) * n),
        contextLength: 77,
      },
      options: depth ? { tokenMerging, deep, depth, reuse } : { tokenMerging },
    })
  const all = { off: {}, ...settings }
  const kinds = new Map(
    Object.values(all)
      .flatMap(forwardsOf)
      .map((kind) => [keyOf(kind), kind]),
  )
  const times = Object.fromEntries([...kinds.keys()].map((key) => [key, []]))
  for (let round = 0; round <= repeat; round++) {
    for (const [key, kind] of kinds) {
      if (kind.depth) await predict(kind, false)
      const time = await seconds(() => predict(kind, true))
      if (round > 0) times[key].push(time) // the first round warms up
    }
  }
  await deep.dispose()
  const run = (setting) =>
    forwardsOf(setting).reduce((sum, kind) => sum + kind.count * Math.min(...times[keyOf(kind)]), 0)
  const acceleration = Object.entries(settings).map(([name, setting]) => ({
    name,
    ratio: run(setting) / run({}),
  }))
  return { seconds: run({}), acceleration, forwards: times, weightBytes: part.weightBytes }
}

/** The bundled model: pictures of 20 prompts with each option, compared with those without it. */
export async function pictures() {
  const { DiffusionPipeline } = await library()
  const pipe = await DiffusionPipeline.load()
  const acceleration = Object.keys(settings).map((name) => ({
    name,
    denoise: 0,
    psnr: /** @type {number[]} */ ([]),
  }))
  let off = 0
  // All options of a prompt take turns, for the same reason.
  for (const [i, prompt] of prompts.entries()) {
    const draw = async (setting) => {
      const { images, timings } = await pipe.generate({ prompt, steps: STEPS, seed: i + 1, ...setting })
      return { data: images[0].data, denoise: timings.denoise }
    }
    if (i === 0) await draw({})
    const plain = await draw({})
    off += plain.denoise
    for (const row of acceleration) {
      const { data, denoise } = await draw(settings[row.name])
      row.denoise += denoise
      row.psnr.push(Math.min(psnr(data, plain.data), 99)) // JSON has no infinity
    }
  }
  await pipe.dispose()
  return {
    seconds: off / 1000,
    acceleration: acceleration.map(({ name, denoise, psnr }) => ({
      name,
      ratio: denoise / off,
      psnrMean: psnr.reduce((sum, x) => sum + x, 0) / psnr.length,
      psnrWorst: Math.min(...psnr),
    })),
  }
}
