/** The formats that the package reads: valid files, how each is damaged, and what is done with the result. */
import { linkSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, extname, join } from 'node:path'
import { crc32, gunzipSync } from 'node:zlib'
import sharp from 'sharp'
import { applyLora, readEmbeddings } from '../../lib/adapters/index.js'
import {
  bundledModelPath,
  ControlNet,
  DiffusionPipeline,
  imageToTensor,
  openModel,
  T2iAdapter,
  Tokenizer,
  type TokenizerDescription,
} from '../../lib/index.js'
import { openControlLllite } from '../../lib/models/control-lllite.js'
import { openControlLora } from '../../lib/models/control-lora.js'
import { openTensorFile } from '../../lib/models/index.js'
import { packageRoot } from '../../lib/package-root.js'
import { ControlLllite } from '../../lib/pipeline/control-lllite.js'
import { AutoencoderKL } from '../../lib/pipeline/autoencoder.js'
import { TextEncoder } from '../../lib/pipeline/text-encoder.js'
import { Unet } from '../../lib/pipeline/unet.js'
import { unpackForms } from '../models/fixtures.js'
import type { Random } from './harness.js'
import { mutateBytes, mutateJson } from './mutate.js'

export interface Format {
  name: string
  /** A damaged file. */
  damage(random: Random): Buffer
  /** Reads it, and uses what was read where it is valid. `id` is unique among the calls that run at the same time. */
  use(bytes: Buffer, id: number, random: Random): Promise<void>
  /** Whether a RangeError may say that it is too large. */
  sizes?: boolean
}

const fixtures = join(packageRoot(), 'test', 'fixtures')
const here = { device: 'cpu' } as const

/** All formats, and what removes the files that they need. */
export async function makeFormats(): Promise<{ formats: Format[]; remove(): void }> {
  const folder = mkdtempSync(join(tmpdir(), 'node-diffusion-mutated-'))
  const forms = unpackForms()
  const formats = [
    tensors('safetensors', '.safetensors', folder, [
      readFileSync(join(fixtures, 'models', 'clip', 'text_encoder', 'model.safetensors')),
      readFileSync(join(fixtures, 'models', 'sd1', 'unet', 'diffusion_pytorch_model.safetensors')),
      readFileSync(join(fixtures, 'tiny-vae', 'three-levels.safetensors')),
      readFileSync(forms.path('folder/vae/diffusion_pytorch_model.safetensors')),
    ]),
    tensors('GGUF', '.gguf', folder, [readFileSync(forms.path('sd1-f16.gguf'))]),
    configs(folder, forms.path('folder')),
    ...vocabularies(),
    ...(await images()),
    pickles(folder),
    await adapters(folder),
  ]
  const remove = () => {
    forms.remove()
    rmSync(folder, { recursive: true, force: true })
  }
  return { formats, remove }
}

/** Loads every component of a model, and frees it. */
async function loadParts(path: string): Promise<void> {
  const { unet, vae, textEncoders } = await openModel(path)
  if (unet) await (await Unet.load(unet, here)).dispose()
  if (vae) await (await AutoencoderKL.from(vae, here)).dispose()
  for (const encoder of textEncoders) {
    const tokenizer = await Tokenizer.create(encoder.tokenizer ?? null)
    await (await TextEncoder.load(encoder, tokenizer, here)).dispose()
  }
}

function tensors(name: string, extension: string, folder: string, valid: Buffer[]): Format {
  const safetensors = extension === '.safetensors'
  const sizes = valid.map((bytes) =>
    safetensors ? 8 + Number(bytes.readBigUInt64LE()) : bytes.indexOf(Buffer.alloc(64)),
  )
  return {
    name,
    damage(random) {
      const which = random.below(valid.length)
      const [bytes, header] = [valid[which], sizes[which]]
      if (!safetensors || random.below(2) === 0) return mutateBytes(bytes, random, { header })
      const json = Buffer.from(mutateJson(bytes.toString('utf8', 8, header), random))
      const length = Buffer.alloc(8)
      length.writeBigUInt64LE(BigInt(json.length))
      return Buffer.concat([length, json, bytes.subarray(header)])
    },
    async use(bytes, id) {
      const path = join(folder, `${id}${extension}`)
      await writeFile(path, bytes)
      await openTensorFile(path)
      await loadParts(path)
    },
  }
}

/** The JSON files of a diffusers folder. Now and then the whole model is loaded and draws. */
function configs(folder: string, model: string): Format {
  const names = [
    'model_index.json',
    'scheduler/scheduler_config.json',
    ...['unet', 'vae', 'text_encoder'].map((part) => `${part}/config.json`),
  ]
  const texts = names.map((name) => readFileSync(join(model, name), 'utf8'))
  const weights = ['unet', 'vae', 'text_encoder'].flatMap((part) =>
    readdirSync(join(model, part))
      .filter((file) => file !== 'config.json')
      .map((file) => `${part}/${file}`),
  )
  /** Folders of the calls that run at the same time. */
  const prepared = new Set<number>()
  const prepare = (id: number) => {
    const copy = join(folder, `model-${id}`)
    if (!prepared.has(id)) {
      for (const part of ['unet', 'vae', 'text_encoder', 'scheduler'])
        mkdirSync(join(copy, part), { recursive: true })
      for (const file of weights) linkSync(join(model, file), join(copy, file))
      prepared.add(id)
    }
    for (const [i, name] of names.entries()) writeFileSync(join(copy, name), texts[i])
    return copy
  }
  return {
    name: 'JSON configurations',
    damage(random) {
      const which = random.below(names.length)
      const text = random.below(4) > 0 ? mutateJson(texts[which], random) : texts[which]
      const bytes =
        text === texts[which] ? mutateBytes(Buffer.from(text), random, { words: ['"', '{', '[', ',', ':', '1e999'] }) : Buffer.from(text) // prettier-ignore
      return Buffer.concat([Buffer.from([which]), bytes])
    },
    async use(bytes, id, random) {
      const copy = prepare(id)
      await writeFile(join(copy, names[bytes[0]]), bytes.subarray(1))
      await openModel(copy)
      if (random.below(24) > 0) return
      const pipe = await DiffusionPipeline.load(copy, here)
      try {
        const request = { prompt: 'a', steps: 1, width: 64, height: 64, seed: 1 }
        await pipe.generate(request).catch(async (error: unknown) => {
          if (!String(error).includes('skipPrkSteps: false')) throw error
          await pipe.generate({ ...request, steps: 4 }) // what this schedule needs
        })
      } finally {
        await pipe.dispose()
      }
    },
  }
}

function vocabularies(): Format[] {
  const from = join(bundledModelPath(), 'tokenizer')
  const read = (name: string) => readFileSync(join(from, name), 'utf8')
  const [vocab, merges, tokenizerJson] = ['vocab.json', 'merges.txt', 'tokenizer.json'].map(read)
  const use = async (texts: Partial<TokenizerDescription>) => {
    const tokenizer = await Tokenizer.create({ maxLength: 77, padToken: '<|endoftext|>', ...texts })
    tokenizer.decode(tokenizer.encode('noto pizza: 7 \u00e9\ud83d\ude00 <|endoftext|>'))
    tokenizer.unknownWords('noto xylophone')
  }
  const words = ['\u001b[31m', '</w>', '<|endoftext|>', '\n', ' ', '\ud83d\ude00', '"', '\\u0000', '1e999']
  const json = (text: string, random: Random) =>
    random.below(2) === 0 ? Buffer.from(mutateJson(text, random)) : mutateBytes(Buffer.from(text), random, { words }) // prettier-ignore
  return [
    {
      name: 'vocab.json',
      damage: (random) => json(vocab, random),
      use: (bytes) => use({ vocab: bytes.toString(), merges }),
    },
    {
      name: 'merges.txt',
      damage: (random) => mutateBytes(Buffer.from(merges), random, { words }),
      use: (bytes) => use({ vocab, merges: bytes.toString() }),
    },
    {
      name: 'tokenizer.json',
      damage: (random) => json(tokenizerJson, random),
      use: (bytes) => use({ tokenizerJson: bytes.toString() }),
    },
  ]
}

async function images(): Promise<Format[]> {
  const pixels = Buffer.from(Array.from({ length: 24 * 20 * 3 }, (_, i) => (i * 37) % 256))
  const picture = () => sharp(pixels, { raw: { width: 24, height: 20, channels: 3 } })
  const interlaced = await picture().png({ progressive: true }).toBuffer()
  const files: Record<string, Buffer[]> = {
    png: [await picture().png().toBuffer(), interlaced, await picture().png({ palette: true }).toBuffer()],
    jpeg: [await picture().jpeg().toBuffer(), await picture().jpeg({ progressive: true }).keepExif().toBuffer()],
    webp: [await picture().webp().toBuffer(), await picture().webp({ lossless: true }).toBuffer()],
    avif: [await picture().avif({ effort: 0 }).toBuffer()],
    svg: [
      '<svg xmlns="http://www.w3.org/2000/svg" width="24" height="20"><rect width="9" height="7" fill="red"/><text>a</text></svg>',
      '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 20"><g id="g"><circle r="7" style="fill:url(#x)"/></g><use href="#g"/></svg>',
    ].map((text) => Buffer.from(text)),
  } // prettier-ignore
  const words = [
    ...['<image href="file:///etc/passwd" width="9" height="9"/>', '<use href="#g"/>', 'width="1000000"'],
    ...['<!DOCTYPE svg [<!ENTITY a "&b;&b;">]>', '&a;', '<script>', 'height="0"', '\u001b[31m', '-1e9', '%'],
  ]
  return Object.entries(files).map(([name, valid]) => ({
    name,
    sizes: true,
    damage(random) {
      const bytes = mutateBytes(random.pick(valid), random, { words: name === 'svg' ? words : [] })
      return name === 'png' && random.below(3) > 0 ? withChecksums(bytes) : bytes
    },
    async use(bytes) {
      const { data, shape } = await imageToTensor(bytes)
      const [, , height, width] = shape
      if (data.length !== 3 * width * height || data.some(Number.isNaN)) throw new Error('a wrong tensor')
    },
  }))
}

/** A PNG whose chunks have the checksums of what they now contain. */
function withChecksums(bytes: Buffer): Buffer {
  const png = Buffer.from(bytes)
  for (let at = 8; at + 12 <= png.length;) {
    const end = at + 8 + png.readUInt32BE(at)
    if (end + 4 > png.length) break
    png.writeUInt32BE(crc32(png.subarray(at + 4, end)), end)
    at = end + 4
  }
  return png
}

function pickles(folder: string): Format {
  const from = join(fixtures, 'pickles')
  const small = readdirSync(from).filter((name) => name.endsWith('.pt'))
  const valid = small.map((name) => readFileSync(join(from, name)))
  const whole = gunzipSync(readFileSync(join(from, 'vae.ckpt.gz')))
  const words = [
    '\x80\x02',
    'cos\nsystem\n',
    'R',
    '(',
    '.',
    't',
    '}',
    ']',
    'b',
    '\x8a\x08',
    'X\xff\xff\xff\xff',
  ]
  return {
    name: 'pickles',
    damage(random) {
      if (random.below(8) === 0) return mutateBytes(whole, random, { header: 8192, words })
      return mutateBytes(random.pick(valid), random, { words })
    },
    async use(bytes, id) {
      const path = join(folder, `${id}.ckpt`)
      await writeFile(path, bytes)
      await openTensorFile(path)
      await loadParts(path)
    },
  }
}

/** LoRA files, applied to a UNet that is loaded with them, embeddings, and nets that are loaded beside the model. */
async function adapters(folder: string): Promise<Format> {
  const files = ['adapters', 'embeddings', 'control', 'control-lora', 'control-lllite', 't2i'].flatMap(
    (part) =>
      readdirSync(join(fixtures, part))
        .filter((name) => /\.(safetensors|pt|bin)$/.test(name) && !name.startsWith('golden'))
        .map((name) => join(fixtures, part, name)),
  )
  const valid = files.map((file) => ({ file, bytes: readFileSync(file) }))
  const model = join(fixtures, 'models', 'sd1')
  const text = await openModel(bundledModelPath())
  return {
    name: 'adapters',
    damage(random) {
      const which = random.below(valid.length)
      const { file, bytes } = valid[which]
      const prefix = Buffer.from([which])
      if (extname(file) !== '.safetensors') return Buffer.concat([prefix, mutateBytes(bytes, random)])
      const header = 8 + Number(bytes.readBigUInt64LE())
      if (random.below(2) === 0) return Buffer.concat([prefix, mutateBytes(bytes, random, { header })])
      const json = Buffer.from(mutateJson(bytes.toString('utf8', 8, header), random))
      const length = Buffer.alloc(8)
      length.writeBigUInt64LE(BigInt(json.length))
      return Buffer.concat([prefix, length, json, bytes.subarray(header)])
    },
    async use(bytes, id) {
      const { file } = valid[bytes[0]]
      const path = join(folder, `${id}-${basename(file)}`)
      await writeFile(path, bytes.subarray(1))
      if (file.includes('embeddings')) {
        await readEmbeddings(text, [{ path }])
        return
      }
      if (file.includes('control-lllite')) {
        const { unet, ...model } = await openModel(
          basename(file).startsWith('sd1')
            ? join(fixtures, 'control', 'sd1')
            : join(fixtures, 'sdxl', 'base'),
        )
        const lllite = await openControlLllite(path, { ...model, unet: unet! })
        if (lllite) await (await ControlLllite.from(lllite, here)).dispose()
        return
      }
      if (file.includes('control-lora')) {
        const { unet } = await openModel(
          basename(file).startsWith('sd1')
            ? join(fixtures, 'control', 'sd1')
            : join(fixtures, 'sdxl', 'base'),
        )
        const controlLora = await openControlLora(path, { unet: unet! })
        if (controlLora) await (await ControlNet.from(controlLora, here)).dispose()
        return
      }
      const net = /fixtures.control/.test(file)
        ? ControlNet
        : /fixtures.t2i/.test(file)
          ? T2iAdapter
          : undefined
      if (net) return (await net.load(path, here)).dispose()
      const base = await openModel(model)
      await applyLora(base, { path, scale: 1 })
      await (await Unet.load(base.unet!, here)).dispose()
    },
  }
}
