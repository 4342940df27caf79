/** What bfloat16, int8 and quantized weights cost in quality. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { writeRandomLora } from '../../tools/bench/random_lora.mjs'
import { component, library } from './support.mjs'

export const prompts = [
  'noto red heart', 'noto pizza', 'flat dog face', 'noto cat face', 'flat rocket', 'noto grinning face', 'flat fire',
  'noto banana', 'flat blue heart', 'noto crab', 'flat hamburger', 'noto christmas tree', 'noto penguin', 'flat penguin',
  'noto strawberry', 'flat tent', 'noto cactus', 'flat ghost', 'flat pizza', 'noto rocket',
] // prettier-ignore

/** The default of the bundled model. */
const GUIDANCE = 3

/** PSNR in dB of two pictures of bytes; infinity if they are equal. */
export function psnr(a, b) {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += (a[i] - b[i]) ** 2
  return 10 * Math.log10(255 ** 2 / (sum / a.length))
}

async function draw(path, options, steps) {
  const { DiffusionPipeline } = await library()
  const pipe = await DiffusionPipeline.load(path, options)
  const pictures = []
  for (const [i, prompt] of prompts.entries())
    pictures.push(
      (await pipe.generate({ prompt, steps, seed: i + 1, guidanceScale: GUIDANCE })).images[0].data,
    )
  await pipe.dispose()
  return pictures
}

/** The bundled model: pictures of 20 prompts after 20 steps, compared with those in float32. */
export async function pictures({ steps = 20 }) {
  const { bundledModelPath, quantizeModel } = await library()
  const bundled = bundledModelPath()
  const folder = await mkdtemp(join(tmpdir(), 'node-diffusion-bench-'))
  try {
    const reference = await draw(bundled, { precision: 'f32' }, steps)
    const quality = []
    const compare = async (name, path, options) => {
      const all = (await draw(path, options, steps)).map((picture, i) => psnr(picture, reference[i]))
      // JSON has no infinity.
      const finite = all.map((x) => Math.min(x, 99))
      const mean = finite.reduce((sum, x) => sum + x, 0) / finite.length
      quality.push({ name, psnrMean: mean, psnrWorst: Math.min(...finite) })
    }
    await compare('bf16', bundled, { precision: 'bf16' })
    await compare('int8, from the fp16 weights', bundled, { precision: 'int8' })
    for (const type of ['q8_0', 'q4_0', 'q4_k']) {
      const output = join(folder, `${type}.gguf`)
      await quantizeModel(bundled, output, { type })
      await compare(type, output, {})
    }
    return { quality }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Normal numbers from a small generator (mulberry32, Box–Muller), the same in every run. */
function normals(count, seed) {
  const uniform = () => {
    seed = (seed + 0x6d2b79f5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
  return Float32Array.from({ length: count }, () => {
    const radius = Math.sqrt(-2 * Math.log(1 - uniform()))
    return radius * Math.cos(2 * Math.PI * uniform())
  })
}

/** One prediction of each model's UNet, compared with the first one's in float32: relative L2 error. */
export async function prediction({ models, size }) {
  const side = Math.ceil(size / 8)
  const predict = async (path, precision) => {
    const { part, config } = await component(path, 'unet', precision)
    const output = await part.predict({
      latents: normals(config.inChannels * side * side, 1),
      n: 1,
      h: side,
      w: side,
      conditioning: {
        timesteps: Float32Array.of(500),
        context: normals(77 * config.contextWidth, 2),
        contextLength: 77,
      },
    })
    await part.dispose()
    return output
  }
  const reference = await predict(models[0].path, 'f32')
  const quality = []
  for (const { label, path, precision } of models) {
    const output = await predict(path, precision)
    let difference = 0
    let norm = 0
    for (let i = 0; i < reference.length; i++) {
      difference += (output[i] - reference[i]) ** 2
      norm += reference[i] ** 2
    }
    quality.push({ name: label, relativeError: Math.sqrt(difference / norm) })
  }
  return { quality }
}

const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0)

/**
 * What a LoRA of rank 32 changes in one prediction of each model, compared with what it changes in the first one in
 * float32: the cosine of the two differences.
 */
export async function lora({ models, size }) {
  const { DiffusionPipeline } = await library()
  const folder = await mkdtemp(join(tmpdir(), 'node-diffusion-bench-'))
  try {
    const file = join(folder, 'lora.safetensors')
    await writeRandomLora(models[0].path, file)
    const side = Math.ceil(size / 8)
    const changeOf = async (path, precision) => {
      const predictions = []
      for (const loras of [[], [file]]) {
        const pipe = await DiffusionPipeline.load(path, { device: 'cpu', precision, loras })
        const { inChannels, contextWidth } = pipe.unet.config
        const latents = { data: normals(inChannels * side * side, 1), shape: [1, inChannels, side, side] }
        const context = { data: normals(77 * contextWidth, 2), shape: [1, 77, contextWidth] }
        predictions.push((await pipe.unet.predict({ latents, context, timestep: 500 })).data)
        await pipe.dispose()
      }
      return predictions[1].map((x, i) => x - predictions[0][i])
    }
    const reference = await changeOf(models[0].path, 'f32')
    const directions = []
    for (const { label, path, precision } of models) {
      const change = await changeOf(path, precision)
      const cosine = dot(change, reference) / Math.sqrt(dot(change, change) * dot(reference, reference))
      directions.push({ name: label, cosine })
    }
    return { quality: directions }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
