/** One forward pass of each component, and the time of a UNet pass by kind of layer. */
import { native } from '../../dist/native.js'
import { unetOperations } from '../operations.mjs'
import { best, component, components, noise } from './support.mjs'

const latentScale = 8

/** All text encoders of the model, one after the other. */
export async function text({ model, precision, repeat, batch }) {
  const encoders = await components(model, 'textEncoder', precision)
  const tokens = encoders.map(({ config }) =>
    Int32Array.from({ length: batch * 77 }, () => Math.floor(Math.random() * config.vocabSize)),
  )
  const encode = async () => {
    for (const [i, { part }] of encoders.entries())
      await part.encode({ tokens: tokens[i], n: batch, length: 77, skip: 0 })
  }
  return {
    seconds: await best(repeat, encode),
    weightBytes: encoders.reduce((sum, { part }) => sum + part.weightBytes, 0),
  }
}

/** SDXL: the pooled text, and sizes and crop as of a picture of this size. */
function added(config, { batch, size }) {
  if (!config.added) return {}
  const timeIdCount = 6
  const pooledWidth = config.added.width - timeIdCount * config.added.timeWidth
  const ids = [size, size, 0, 0, size, size]
  return {
    pooled: noise(batch * pooledWidth),
    pooledWidth,
    timeIds: Float32Array.from({ length: batch * timeIdCount }, (_, i) => ids[i % timeIdCount]),
    timeIdCount,
  }
}

async function openUnet({ model, precision, batch, size }) {
  const { part, config } = await component(model, 'unet', precision)
  const side = Math.ceil(size / latentScale)
  const latents = noise(batch * config.inChannels * side * side)
  const conditioning = {
    timesteps: new Float32Array(batch).fill(500),
    context: noise(batch * 77 * config.contextWidth),
    contextLength: 77,
    ...added(config, { batch, size }),
  }
  const sizes = { n: batch, h: side, w: side }
  return {
    part,
    predict: () => part.predict({ latents, ...sizes, conditioning }),
    workingBytes: part.workingBytes({ ...sizes, conditioning: { contextLength: 77 } }),
    operations: unetOperations(config, { height: side, width: side, batch }).total,
  }
}

export async function unet(options) {
  const { part, predict, workingBytes, operations } = await openUnet(options)
  return {
    seconds: await best(options.repeat, predict),
    weightBytes: part.weightBytes,
    workingBytes,
    operations,
  }
}

/** The fastest of the forward passes, by kind of layer. */
export async function layers(options) {
  const { predict } = await openUnet(options)
  await predict()
  let shortest
  native().profile(true)
  for (let i = 0; i < options.repeat; i++) {
    await predict()
    const rows = native().profile(true)
    const time = rows.reduce((sum, row) => sum + row.seconds, 0)
    if (!shortest || time < shortest.seconds) shortest = { seconds: time, layers: rows }
  }
  native().profile(false)
  return shortest
}

export async function vaeDecode({ model, precision, repeat, size }) {
  const { part, config } = await component(model, 'vae', precision)
  const side = Math.ceil(size / latentScale)
  const latents = noise(config.latentChannels * side * side)
  const figures = { weightBytes: part.weightBytes, workingBytes: part.decodeBytes(1, side, side, null) }
  return {
    seconds: await best(Math.min(repeat, 2), () => part.decode(latents, 1, side, side, null)),
    ...figures,
  }
}

export async function vaeEncode({ model, precision, repeat, size }) {
  const { part, config } = await component(model, 'vae', precision)
  const image = noise(config.inChannels * size * size)
  const figures = { weightBytes: part.weightBytes, workingBytes: part.encodeBytes(1, size, size, null) }
  return {
    seconds: await best(Math.min(repeat, 2), () => part.encode(image, 1, size, size, null)),
    ...figures,
  }
}
