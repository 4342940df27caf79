/** What the cases share: timing, inputs, and components loaded directly from the addon. */
import { createReadStream } from 'node:fs'
import { native } from '../../dist/native.js'
import { openModel } from '../../dist/models/index.js'

/** The package's entry point. It is imported where it is measured, because importing it is part of the start. */
export const library = () => import('../../dist/index.js')

export async function seconds(work) {
  const began = performance.now()
  await work()
  return (performance.now() - began) / 1000
}

export const median = (list) => list.sort((a, b) => a - b)[list.length >> 1]

/** The shortest of `repeat` runs after one warm-up run. */
export async function best(repeat, work) {
  await work()
  let shortest = Infinity
  for (let i = 0; i < repeat; i++) shortest = Math.min(shortest, await seconds(work))
  return shortest
}

/** Roughly normal numbers. Their values do not affect the time, as subnormal or huge ones would. */
export function noise(count, random = Math.random) {
  const data = new Float32Array(count)
  for (let i = 0; i < count; i++) data[i] = 1.7 * (random() + random() - 1)
  return data
}

export const loaders = {
  textEncoder: (part, precision) => native().loadTextEncoder(part.config, { ...part.source, precision }),
  unet: (part, precision) => native().loadUnet(part.config, { ...part.source, precision }),
  vae: (part, precision) => native().loadVae(part.config, { ...part.source, precision }),
}

/** The components of this name, loaded: one, or all text encoders. */
export async function components(path, name, precision) {
  const described = partsOf(await openModel(path), name)
  if (described.length === 0) throw new Error(`${path} has no ${name}`)
  const load = async (part) => ({ part: await loaders[name](part, precision), config: part.config })
  return Promise.all(described.map(load))
}

export async function component(path, name, precision) {
  const [first] = await components(path, name, precision)
  return first
}

/** The descriptions of a model's components of this name. */
export function partsOf(model, name) {
  return name === 'textEncoder' ? model.textEncoders : [model[name]].filter(Boolean)
}

/** Reads the model's files once, so that they are in the page cache. */
export async function warmPages(model) {
  const files = new Set(
    Object.keys(loaders).flatMap((name) => partsOf(model, name).flatMap(({ source }) => source.files)),
  )
  for (const file of files)
    for await (const chunk of createReadStream(file, { highWaterMark: 1 << 22 })) void chunk
}
