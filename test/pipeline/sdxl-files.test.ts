/** Files of SDXL as people have them: variants, shards, the cache of the Hub, activations beyond half precision. */
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { bundledModelPath, DiffusionPipeline, openModel } from '../../lib/index.js'
import { packageRoot } from '../../lib/package-root.js'
import { readTensors, writeTensors, type StoredTensor } from '../model-files/stored-tensors.js'
import { largestDifference } from './support.js'

const root = mkdtempSync(join(tmpdir(), 'node-diffusion-sdxl-files-'))
t.teardown(() => rmSync(root, { recursive: true, force: true }))
const base = freshModel('base')

function freshModel(name: string): string {
  const folder = join(root, name)
  cpSync(join(packageRoot(), 'test', 'fixtures', 'sdxl', 'base'), folder, { recursive: true })
  for (const tokenizer of ['tokenizer', 'tokenizer_2'])
    cpSync(join(bundledModelPath(), 'tokenizer'), join(folder, tokenizer), { recursive: true })
  return folder
}

const options = { prompt: 'noto pizza', steps: 2, seed: 1, guidanceScale: 3 }

async function draw(path: string, load: Parameters<typeof DiffusionPipeline.load>[1] = {}) {
  await using pipe = await DiffusionPipeline.load(path, { precision: 'f32', ...load })
  const { images, warnings } = await pipe.generate(options)
  return { data: images[0].data, warnings }
}

/** Half precision of a number that has one exactly. */
function half(value: number): number {
  const bits = new Uint32Array(Float32Array.of(value).buffer)[0]
  return ((bits >>> 16) & 0x8000) | ((((bits >>> 23) & 0xff) - 112) << 10) | ((bits >>> 13) & 0x3ff)
}

t.test('variants, also in shards', async (t) => {
  const plain = await draw(base)
  const folder = freshModel('variants')
  const unet = join(folder, 'unet')
  const name = 'diffusion_pytorch_model'
  const tensors = [...readTensors(join(unet, `${name}.safetensors`))]
  // The weights without a variant are others: the picture tells which were read.
  const changed = tensors.map(([key, tensor]): [string, StoredTensor] => [
    key,
    key === 'conv_out.weight' ? { ...tensor, bytes: Buffer.alloc(tensor.bytes.length) } : tensor,
  ])
  writeTensors(join(unet, `${name}.safetensors`), changed)
  const middle = Math.floor(tensors.length / 2)
  const shards = [tensors.slice(0, middle), tensors.slice(middle)]
  const map: Record<string, string> = {}
  for (const [i, shard] of shards.entries()) {
    const file = `${name}.fp16-0000${i + 1}-of-00002.safetensors`
    writeTensors(join(unet, file), shard)
    for (const [key] of shard) map[key] = file
  }
  writeFileSync(join(unet, `${name}.safetensors.index.fp16.json`), JSON.stringify({ weight_map: map }))
  t.ok(largestDifference((await draw(folder)).data, plain.data) > 2, 'without a variant')
  t.equal(largestDifference((await draw(folder, { variant: 'fp16' })).data, plain.data), 0, 'shards of fp16')

  // One file instead of shards; a part from another folder has it, too.
  for (const file of readdirSync(unet).filter((file) => file.includes('fp16'))) rmSync(join(unet, file))
  writeTensors(join(unet, `${name}.fp16.safetensors`), tensors)
  t.equal(
    largestDifference((await draw(folder, { variant: 'fp16' })).data, plain.data),
    0,
    'one file of fp16',
  )
  const { unet: opened } = await openModel(folder, { variant: 'fp16' })
  t.match(opened!.source.files[0], /fp16/)
  const beside = freshModel('beside')
  renameSync(join(beside, 'vae', `${name}.safetensors`), join(beside, 'vae', `${name}.fp16.safetensors`))
  t.equal(largestDifference((await draw(beside, { variant: 'fp16', unet })).data, plain.data), 0, 'a part')

  await t.rejects(draw(base, { variant: 'fp16' }), {
    code: 'MODEL_FORMAT',
    message: /expected weights of the variant "fp16", found none/,
  })
  await t.rejects(draw(base, { variant: 16 as unknown as string }), { name: 'TypeError' })
})

t.test('a folder in the cache of Hugging Face, which has links', async (t) => {
  const repository = join(root, 'models--someone--sdxl')
  const commit = 'a'.repeat(40)
  const blobs = join(repository, 'blobs')
  mkdirSync(blobs, { recursive: true })
  let count = 0
  const link = (from: string, to: string) => {
    mkdirSync(to, { recursive: true })
    for (const entry of readdirSync(from, { withFileTypes: true })) {
      if (entry.isDirectory()) {
        link(join(from, entry.name), join(to, entry.name))
        continue
      }
      const blob = join(blobs, String(count++))
      cpSync(join(from, entry.name), blob)
      symlinkSync(blob, join(to, entry.name))
    }
  }
  const snapshot = join(repository, 'snapshots', commit)
  link(base, snapshot)
  mkdirSync(join(repository, 'refs'))
  writeFileSync(join(repository, 'refs', 'main'), commit)
  const plain = await draw(base)
  for (const path of [repository, snapshot])
    t.equal(largestDifference((await draw(path)).data, plain.data), 0, path)
})

t.test('activations of the autoencoder beyond half precision', async (t) => {
  const folder = freshModel('large')
  const path = join(folder, 'vae', 'diffusion_pytorch_model.safetensors')
  const tensors = readTensors(path)
  // Both are added on the way, to 98304; half precision ends at 65504. Half of the channels are negative.
  for (const name of ['decoder.conv_in.bias', 'decoder.mid_block.resnets.0.conv2.bias']) {
    const { dtype, shape } = tensors.get(name)!
    t.equal(dtype, 'F16')
    const values = Uint16Array.from({ length: shape[0] }, (_, i) => half(i % 2 === 0 ? 49152 : -49152))
    tensors.set(name, { dtype, shape, bytes: Buffer.from(values.buffer) })
  }
  writeTensors(path, tensors)
  const exact = await draw(folder)
  t.same(exact.warnings, [], 'all numbers are finite')
  t.ok(
    exact.data.some((level) => level > 0 && level < 255),
    'the picture is not black',
  )
  for (const precision of ['auto', 'bf16', 'int8'] as const) {
    const { data, warnings } = await draw(folder, { precision })
    t.same(warnings, [], precision)
    t.ok(largestDifference(data, exact.data) < 64, `${precision}: about the same picture`)
  }
})

t.test('infinity among the weights is never a picture without a word', async (t) => {
  const cases = [
    ['text_encoder', 'encoder.layers.0.mlp.fc1.weight', 'text encoder'],
    ['text_encoder_2', 'encoder.layers.1.self_attn.out_proj.bias', 'text encoder'],
    ['unet', 'down_blocks.0.resnets.0.conv1.weight', 'UNet'],
    ['unet', 'conv_out.bias', 'UNet'],
    ['vae', 'decoder.conv_in.weight', 'decoder'],
    ['vae', 'decoder.conv_norm_out.weight', 'decoder'],
  ] as const
  for (const [part, ending, culprit] of cases) {
    const folder = freshModel(`infinity-${part}`)
    const file = readdirSync(join(folder, part)).find((name) => name.endsWith('.safetensors'))!
    const path = join(folder, part, file)
    const tensors = readTensors(path)
    const name = [...tensors.keys()].find((one) => one.endsWith(ending))!
    const { dtype, shape, bytes } = tensors.get(name)!
    t.equal(dtype, 'F16', name)
    const changed = Buffer.from(bytes)
    changed.writeUInt16LE(0x7c00, 0)
    tensors.set(name, { dtype, shape, bytes: changed })
    writeTensors(path, tensors)
    for (const precision of ['f32', 'auto', 'bf16', 'int8'] as const) {
      const { warnings } = await draw(folder, { precision })
      t.match(
        warnings.join(),
        new RegExp(`${culprit} gave numbers that are not finite`),
        `${name}, ${precision}`,
      )
    }
    rmSync(folder, { recursive: true })
  }
})

t.test('tensors that nothing uses are named in warnings', async (t) => {
  const folder = freshModel('stray')
  const path = join(folder, 'unet', 'diffusion_pytorch_model.safetensors')
  const tensors = readTensors(path)
  tensors.set('a.leftover', { dtype: 'F16', shape: [2], bytes: Buffer.alloc(4) })
  writeTensors(path, tensors)
  const { data, warnings } = await draw(folder)
  t.same(warnings, ['unet has a tensor that the model does not use: "a.leftover"'])
  t.equal(largestDifference(data, (await draw(base)).data), 0)
})
