/**
 * The computations that compare.mjs runs with two checkouts: `node cases.mjs CHECKOUT all|components|tables [FILTER]` loads
 * the package of CHECKOUT and prints a JSON line with the hash of each result. Only the public API is used, and the inputs
 * are this checkout's fixtures, so that both sides compute the same whatever moved in between.
 */
import { createHash } from 'node:crypto'
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { gunzipSync } from 'node:zlib'

const fixtures = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'test', 'fixtures')
const [checkout, set, filter = ''] = process.argv.slice(2)
const {
  AutoencoderKL, AutoencoderTiny, cpuInfo, DeepCache, DiffusionPipeline, quantizeModel, schedulerNames, VqModel,
} = await import(pathToFileURL(join(resolve(checkout), 'dist', 'index.js')).href) // prettier-ignore

const PRECISIONS = ['f32', 'bf16', 'int8']
const QUANTIZED = ['q8_0', 'q5_0', 'q5_1', 'q4_0', 'q4_1', 'q6_k', 'q5_k', 'q4_k', 'q3_k', 'q2_k']

const print = (name, result) => process.stdout.write(`${JSON.stringify({ name, result })}\n`)
const bytesOf = (x) => new Uint8Array(x.buffer, x.byteOffset, x.byteLength)

/** A hash of typed arrays, or of objects with them in `data`. */
function hashOf(...parts) {
  const hash = createHash('sha256')
  for (const part of parts) {
    hash.update(JSON.stringify(part.shape ?? [part.width, part.height, part.length]))
    hash.update(bytesOf(part.data ?? part))
  }
  return hash.digest('hex').slice(0, 16)
}

/** Runs one case: `compute` gives a tensor, an image, a typed array, or a list of them. */
async function test(name, compute) {
  if (!name.includes(filter)) return
  try {
    print(name, hashOf(...[await compute()].flat()))
  } catch (error) {
    print(name, `error: ${error.code ?? error.name}: ${error.message}`)
  }
}

/** The first pipeline that loads. */
async function firstOf(folders, options) {
  for (const folder of folders.slice(0, -1))
    try {
      return await DiffusionPipeline.load(folder, options)
    } catch {
      // The next one.
    }
  return DiffusionPipeline.load(folders.at(-1), options)
}

/** Loads something for some cases and frees it afterwards. Where it cannot be loaded, that is the result. */
async function using(name, load, cases) {
  let loaded
  try {
    loaded = await load()
  } catch (error) {
    if (name.includes(filter)) print(`${name} load`, `error: ${error.code ?? error.name}: ${error.message}`)
    return
  }
  await cases(loaded)
  await loaded.dispose()
}

/** All of a safetensors file of float32 and int32. */
function readTensors(path) {
  const bytes = readFileSync(path)
  const start = 8 + Number(bytes.readBigUInt64LE(0))
  const { __metadata__, ...header } = JSON.parse(bytes.toString('utf8', 8, start))
  const tensors = new Map()
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(header)) {
    const [begin, end] = data_offsets.map((offset) => bytes.byteOffset + start + offset)
    const data = new { F32: Float32Array, I32: Int32Array }[dtype](bytes.buffer.slice(begin, end))
    tensors.set(name, { data, shape })
  }
  return tensors
}

/** The same numbers in −1…1 on every machine. */
function numbers(seed, shape) {
  let state = seed
  const next = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0)
  return {
    data: Float32Array.from({ length: shape.reduce((x, y) => x * y) }, () => next() / 2 ** 31 - 1),
    shape,
  }
}

const scratch = mkdtempSync(join(tmpdir(), 'node-diffusion-compare-'))

/** Unpacks a folder of .gz files. */
function unpack(from, to) {
  mkdirSync(to, { recursive: true })
  for (const name of readdirSync(from)) {
    const source = join(from, name)
    if (statSync(source).isDirectory()) unpack(source, join(to, name))
    else writeFileSync(join(to, name.replace(/\.gz$/, '')), gunzipSync(readFileSync(source)))
  }
}
const forms = join(scratch, 'forms')
unpack(join(fixtures, 'models', 'forms'), forms)

/** A UNet and a text encoder of the fixtures come alone; a pipeline is loaded from a whole folder. */
function wholeModel(name, parts) {
  const folder = join(scratch, name)
  cpSync(join(forms, 'folder'), folder, { recursive: true })
  for (const part of ['unet', 'vae', 'text_encoder']) rmSync(join(folder, part), { recursive: true })
  rmSync(join(folder, 'model_index.json'))
  for (const [part, model] of Object.entries(parts))
    if (model) cpSync(join(fixtures, 'models', model, part), join(folder, part), { recursive: true })
  // Their vocabularies of 131 tokens have no files.
  const tokens = Array.from({ length: 129 }, (_, id) => `token${id}</w>`).concat(
    '<|startoftext|>',
    '<|endoftext|>',
  )
  mkdirSync(join(folder, 'tokenizer'))
  writeFileSync(
    join(folder, 'tokenizer', 'vocab.json'),
    JSON.stringify(Object.fromEntries(tokens.map((token, id) => [token, id]))),
  )
  writeFileSync(join(folder, 'tokenizer', 'merges.txt'), '#version: 0.2\n')
  return folder
}

const golden = readTensors(join(fixtures, 'models', 'golden.safetensors'))
const goldenCases = JSON.parse(readFileSync(join(fixtures, 'models', 'cases.json'), 'utf8'))
/** The inputs that the references were computed for: of a model, with the tensors that a kind of call takes. */
const inputs = (model, kind) =>
  goldenCases
    .filter((of) => of.model === model && of.kind === kind)
    .map(({ name }) => ({ name, of: (key) => golden.get(`${name}/${key}`) }))

async function unetCases(name, unet, model) {
  for (const { name: input, of } of inputs(model, 'predict')) {
    const [latents, context] = [of('latents'), of('context')]
    const timestep = of('timesteps').data
    const keys = { pooled: 'pooled', timeIds: 'time_ids', guidance: 'guidance', classes: 'classes' }
    const conditions = Object.fromEntries(
      Object.entries(keys).flatMap(([key, name]) => (of(name) ? [[key, of(name)]] : [])),
    )
    const predict = (options) => unet.predict({ latents, timestep, context, ...conditions, ...options })
    await test(`${name} ${input}`, () => predict({}))
    await test(`${name} ${input} tokenMerging`, () => predict({ tokenMerging: 0.5 }))
    await test(`${name} ${input} deepCache`, async () => {
      const deepCache = new DeepCache({ interval: 2, depth: 1 })
      const list = [await predict({ deepCache }), await predict({ deepCache })]
      await deepCache.dispose()
      return list
    })
    await test(`${name} ${input} prepared`, async () => {
      if (Object.keys(conditions).length === 0) await unet.prepare([...timestep, 17])
      return predict({})
    })
  }
}

async function textCases(name, encoder, model) {
  for (const { name: input, of } of inputs(model, 'encode_text')) {
    const { data } = of('tokens')
    if (data.length % encoder.length !== 0) continue
    for (const clipSkip of [0, 1])
      await test(`${name} ${input} clipSkip ${clipSkip}`, () => encoder.encode(data, { clipSkip }))
  }
}

/** Whole images and bands of them, as far as memory allows. */
const TILINGS = [undefined, false, true, { bytes: 0 }, { bytes: 200_000 }, { bytes: 1_000_000 }]

async function imageCases(name, model, { image, latents }) {
  for (const tiling of TILINGS) {
    const how = `tiling ${JSON.stringify(tiling)}`
    if (image)
      await test(`${name} encode ${how}`, async () => {
        const encoded = await model.encode(image, { tiling })
        return [encoded.mean ?? encoded.latents ?? encoded, encoded.logvar ?? []].flat()
      })
    if (latents) await test(`${name} decode ${how}`, () => model.decode(latents, { tiling }))
  }
}

async function vaeCases(name, vae, model) {
  for (const { name: input, of } of inputs(model, 'encode'))
    await imageCases(`${name} ${input}`, vae, { image: of('image') })
  for (const { name: input, of } of inputs(model, 'decode'))
    await imageCases(`${name} ${input}`, vae, { latents: of('latents') })
}

/** Every model of the fixtures in every precision. */
async function components() {
  const unets = goldenCases.filter((of) => of.kind === 'predict' && !of.model.startsWith('forms'))
  const texts = ['clip', 'clip-fp16', 'open-clip']
  for (const precision of PRECISIONS) {
    for (const [i, model] of [...new Set(unets.map((of) => of.model))].entries()) {
      const text = texts[i % texts.length]
      const parts = { unet: model, vae: 'vae-kl', text_encoder: text }
      // The widths of the two need not fit; builds until November 2026 take them together, later ones alone.
      const folder = (name, parts) => wholeModel(`${model}-${precision}-${name}`, parts)
      const whole = folder('whole', parts)
      const unetFolders = [folder('unet', { ...parts, text_encoder: undefined }), whole]
      for (const lowMemory of [false, true]) {
        const name = `${precision}${lowMemory ? ' lowMemory' : ''}`
        const options = { precision, lowMemory }
        await using(
          `${name} ${model}`,
          () => firstOf(unetFolders, options),
          (pipe) => unetCases(name, pipe.unet, model),
        )
      }
    }
    for (const lowMemory of [false, true])
      await using(
        `${precision}${lowMemory ? ' lowMemory' : ''} text`,
        () => DiffusionPipeline.load(join(forms, 'folder'), { precision, lowMemory }),
        (pipe) => textCases(`${precision}${lowMemory ? ' lowMemory' : ''}`, pipe.textEncoder, 'forms'),
      )
    for (const model of ['vae-kl', 'vae-plain', 'vae-tiled']) {
      const load = () => AutoencoderKL.load(join(fixtures, 'models', model, 'vae'), { precision })
      await using(`${precision} ${model}`, load, (vae) => vaeCases(precision, vae, model))
    }
    const loadVq = () => VqModel.load(join(fixtures, 'models', 'vq', 'vae'), { precision })
    await using(`${precision} vq`, loadVq, async (vq) => {
      await vaeCases(precision, vq, 'vq')
      for (const { name: input, of } of inputs('vq', 'quantize'))
        await test(`${precision} ${input}`, () => vq.quantize(of('latents')))
      for (const { name: input, of } of inputs('vq', 'lookup'))
        await test(`${precision} ${input}`, () => vq.lookup(of('codes')))
    })
    const tiny = readTensors(join(fixtures, 'tiny-vae', 'golden.safetensors'))
    for (const [file, model] of [
      ['three-levels', 'three-levels'],
      ['three-levels.safetensors', 'three-levels'],
      ['wide', 'wide'],
    ])
      await using(
        `${precision} tiny ${file}`,
        () => AutoencoderTiny.load(join(fixtures, 'tiny-vae', file), { precision }),
        async (vae) => {
          const sizes = [...tiny.keys()].filter(
            (key) => key.startsWith(`${model}/`) && key.endsWith('/latents'),
          )
          for (const key of sizes)
            await imageCases(`${precision} tiny ${file} ${key.split('/')[1]}`, vae, {
              image: tiny.get(key.replace('latents', 'image')),
              latents: tiny.get(key),
            })
        },
      )
  }
  for (const file of ['folder', 'sd1.safetensors', 'sd1-f32.gguf'])
    await using(
      `forms ${file}`,
      () => DiffusionPipeline.load(join(forms, file)),
      async (pipe) => {
        await unetCases(`forms ${file}`, pipe.unet, 'forms')
        await textCases(`forms ${file}`, pipe.textEncoder, 'forms')
        await vaeCases(`forms ${file}`, pipe.vae, 'forms')
      },
    )
}

/** Writes a quantized model for the following cases. The file itself is also a result. */
async function quantize(name, from, file, options) {
  const writing = quantizeModel(from, file, options)
  await Promise.allSettled([writing])
  await test(`${name} file`, async () => {
    await writing
    return readFileSync(file)
  })
}

/** Files that quantizeModel() writes, and what models of them compute. */
async function quantized() {
  for (const type of ['f16', 'bf16', ...QUANTIZED])
    for (const rules of [undefined, `*=${type}`]) {
      const name = `quantized ${type}${rules ? ' throughout' : ''}`
      const file = join(scratch, `${name.replaceAll(' ', '-')}.gguf`)
      await quantize(name, join(forms, 'folder'), file, { type, rules })
      for (const precision of ['auto', 'f32'])
        for (const lowMemory of [false, true])
          await using(
            name,
            () => DiffusionPipeline.load(file, { precision, lowMemory }),
            async (pipe) => {
              const how = `${name} ${precision}${lowMemory ? ' lowMemory' : ''}`
              await unetCases(how, pipe.unet, 'forms')
              await textCases(how, pipe.textEncoder, 'forms')
              await vaeCases(how, pipe.vae, 'forms')
            },
          )
    }
}

async function pathOfBundledModel() {
  const pipe = await DiffusionPipeline.load()
  const { path } = pipe.model
  await pipe.dispose()
  return path
}

/** What the bundled model draws. */
async function pictures() {
  const quick = { prompt: 'noto pizza', steps: 3, seed: 1 }
  const draw = (name, pipe, options) =>
    test(name, async () => {
      const { images, latents } = await pipe.generate({ ...quick, ...options })
      return latents ? [latents] : images
    })
  const image = numbers(5, [1, 3, 64, 64])
  const mask = {
    data: Float32Array.from({ length: 64 * 64 }, (_, i) => (i % 64 < 24 ? 1 : 0)),
    shape: [1, 1, 64, 64],
  }

  await using(
    'bundled',
    () => DiffusionPipeline.load(),
    async (pipe) => {
      for (const scheduler of schedulerNames) await draw(`bundled ${scheduler}`, pipe, { scheduler })
      for (const prompt of ['a blue cat and a pizza', 'flat (rocket:1.3) BREAK [moon]', ''])
        for (const seed of [0, 7, 2n ** 40n])
          await draw(`bundled ${JSON.stringify(prompt)} ${seed}`, pipe, { prompt, seed })
      const options = {
        'batch of 3': { batchSize: 3 },
        'two prompts': { prompt: ['noto fox', 'flat owl'], negativePrompt: ['red', 'blue'] },
        'no guidance': { guidanceScale: 1 },
        'guidance rescaled': { guidanceScale: 7, guidanceRescale: 0.7 },
        'part of the steps guided': { guidanceInterval: [0.2, 0.8], steps: 6 },
        philox: { rng: 'philox' },
        'clipSkip 1': { clipSkip: 1 },
        'no weighting': { prompt: '(noto pizza:1.4)', weighting: false },
        latents: { outputType: 'latents' },
        'given latents': { latents: numbers(3, [1, 4, 16, 16]) },
        'wide image': { width: 128, height: 96 },
        'large image in bands': { width: 256, height: 256, steps: 1, vaeTiling: { bytes: 2_000_000 } },
        'least memory': { width: 128, height: 128, vaeTiling: true },
        'deepCache 2': { deepCache: { interval: 2 }, steps: 6 },
        'deepCache 3 deep': { deepCache: { interval: 3, depth: 2 }, steps: 6, scheduler: 'heun' },
        'tokenMerging 0.5': { tokenMerging: 0.5, width: 128, height: 128 },
        'tokenMerging 0.75 with deepCache': { tokenMerging: 0.75, deepCache: true, steps: 4 },
        'image to image': { image, strength: 0.6, steps: 5 },
        'image to image, ancestral': { image, strength: 0.9, steps: 4, scheduler: 'euler-a' },
        inpainting: { image, mask, steps: 4 },
        'inpainting, partly': { image, mask, strength: 0.7, steps: 5, scheduler: 'ddim' },
      }
      for (const [name, value] of Object.entries(options)) await draw(`bundled ${name}`, pipe, value)
      for (const tiling of [false, true])
        await imageCases(`bundled vae, tiling ${tiling}`, pipe.vae, {
          image,
          latents: numbers(9, [2, 4, 20, 12]),
        })
      await draw('bundled again, after all these', pipe, {})
    },
  )
  for (const precision of PRECISIONS)
    for (const lowMemory of [false, true]) {
      const name = `bundled ${precision}${lowMemory ? ' lowMemory' : ''}`
      await using(
        name,
        () => DiffusionPipeline.load(undefined, { precision, lowMemory }),
        async (pipe) => {
          await draw(name, pipe, {})
          await draw(`${name} image to image`, pipe, { image, strength: 0.5 })
        },
      )
    }
  const tinyVae = join(fixtures, 'tiny-vae', 'three-levels')
  await using(
    'bundled tinyVae',
    () => DiffusionPipeline.load(undefined, { tinyVae }),
    async (pipe) => {
      await draw('bundled tinyVae', pipe, { decoder: 'tiny' })
      await test('bundled tinyVae previews', async () => {
        const previews = []
        await pipe.generate({ ...quick, onStep: ({ preview }) => void previews.push(preview) })
        return previews
      })
    },
  )
  const bundled = await pathOfBundledModel()
  for (const type of QUANTIZED) {
    const name = `bundled ${type}`
    const file = join(scratch, `bundled-${type}.gguf`)
    await quantize(name, bundled, file, { type })
    for (const lowMemory of [undefined, false, true])
      await using(
        name,
        () => DiffusionPipeline.load(file, { lowMemory }),
        (pipe) =>
          draw(`${name} lowMemory ${lowMemory}`, pipe, { tokenMerging: 0.5, deepCache: { interval: 2 } }),
      )
  }
  await using(
    'bundled vq',
    () => VqModel.load(),
    (vq) => imageCases('bundled vq', vq, { image, latents: undefined }),
  )
}

try {
  if (set === 'tables') {
    const { kernels } = cpuInfo()
    print('tables', kernels.join(' '))
  } else {
    await components()
    if (set === 'all') {
      await quantized()
      await pictures()
    }
  }
} finally {
  rmSync(scratch, { recursive: true, force: true })
}
