/** The reader and the engine refuse every tensor of every component by name if it is missing or has another shape. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { native, type ModelSource } from '../../lib/native.js'
import { openModel } from '../../lib/models/index.js'
import { copyModel, fixtures } from './fixtures.js'

type Loader = (source: ModelSource) => Promise<{ dispose(): void }>

const describe: Record<string, () => Promise<[ModelSource, Loader]>> = {
  async deep_attention_unet() {
    const { unet } = await openModel(join(fixtures, 'deep-attention', 'unet'))
    return [unet!.source, (source) => native().loadUnet(unet!.config, source)]
  },
  async linear_unet() {
    const { unet } = await openModel(join(fixtures, 'sd2', 'unet'))
    return [unet!.source, (source) => native().loadUnet(unet!.config, source)]
  },
  async autoencoder() {
    const { vae } = await openModel(join(fixtures, 'vae-kl', 'vae'))
    return [vae!.source, (source) => native().loadVae(vae!.config, source)]
  },
  async vq_model() {
    const { vae } = await openModel(join(fixtures, 'vq', 'vae'))
    return [vae!.source, (source) => native().loadVae(vae!.config, source)]
  },
  async text_encoder() {
    const [textEncoder] = (await openModel(join(fixtures, 'clip', 'text_encoder'))).textEncoders
    return [textEncoder.source, (source) => native().loadTextEncoder(textEncoder.config, source)]
  },
}

function escape(text: string): RegExp {
  return new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
}

for (const [name, make] of Object.entries(describe)) {
  t.test(`engine: ${name}`, async (t) => {
    const [source, load] = await make()
    const spoil = (i: number, change: (tensors: ModelSource['tensors']) => void) => {
      const tensors = source.tensors.map((tensor) => ({ ...tensor, shape: [...tensor.shape] }))
      change(tensors)
      return t.rejects(
        load({ files: source.files, tensors }),
        { code: 'MODEL_SHAPE', message: escape(source.tensors[i].name) },
        source.tensors[i].name,
      )
    }
    for (const i of source.tensors.keys()) {
      await spoil(i, (tensors) => tensors.splice(i, 1))
      // One row and its bytes are missing, so that only the shape is wrong.
      await spoil(i, (tensors) => {
        const tensor = tensors[i]
        tensor.bytes -= tensor.bytes / tensor.shape[0]
        tensor.shape[0] -= 1
      })
    }
    ;(await load(source)).dispose()
  })
}

/** Rewrites the header of a safetensors file. */
function editHeader(path: string, edit: (header: string) => string): void {
  const bytes = readFileSync(path)
  const length = Number(bytes.readBigUInt64LE(0))
  const edited = Buffer.from(edit(bytes.toString('utf8', 8, 8 + length)))
  const size = Buffer.alloc(8)
  size.writeBigUInt64LE(BigInt(edited.length))
  writeFileSync(path, Buffer.concat([size, edited, bytes.subarray(8 + length)]))
}

t.test('openModel: a tensor of another shape, and one that is missing', async (t) => {
  for (const [model, component, file, tensor] of [
    ['sd1', 'unet', 'diffusion_pytorch_model', 'mid_block.attentions.0.proj_in.weight'],
    ['vae-plain', 'vae', 'diffusion_pytorch_model', 'decoder.conv_out.weight'],
    ['clip', 'text_encoder', 'model', 'encoder.layers.1.mlp.fc1.weight'],
  ]) {
    const folder = copyModel(t, model)
    const path = join(folder, component, `${file}.safetensors`)
    const original = readFileSync(path)

    editHeader(path, (header) => {
      const parsed = JSON.parse(header)
      parsed[tensor].shape = [parsed[tensor].shape.reduce((a: number, b: number) => a * b, 1)]
      return JSON.stringify(parsed)
    })
    await t.rejects(
      openModel(join(folder, component)),
      { code: 'MODEL_SHAPE', message: escape(tensor) },
      `${tensor} flat`,
    )

    writeFileSync(path, original)
    editHeader(path, (header) => header.replace(`"${tensor}"`, `"x${tensor.slice(1)}"`))
    await t.rejects(
      openModel(join(folder, component)),
      { code: /MODEL_SHAPE|MODEL_FORMAT/, message: escape(tensor) },
      `no ${tensor}`,
    )
  }
})
