/**
 * A model's files that change between the header and the last weight, or while the model is in use, are an error with
 * the code IO, and never give a mixture of two files.
 */
import {
  cpSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { bundledModelPath, DiffusionPipeline, quantizeModel } from '../../lib/index.js'
import { openModel } from '../../lib/models/index.js'
import { withFile } from '../../lib/models/formats/tensor-file.js'
import { native } from '../../lib/native.js'
import { quick } from '../pipeline/support.js'
import { safetensorsBytes } from './helpers.js'

function folder(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'node-diffusion-changing-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** Changes of a file that its size and its modification time do not show. */
const CHANGES: Record<string, (file: string) => void> = {
  'overwritten in place': (file) => withTimes(file, () => writeFileSync(file, other(file), { flag: 'r+' })),
  'replaced by another file': (file) =>
    withTimes(file, () => {
      writeFileSync(`${file}.new`, other(file))
      renameSync(`${file}.new`, file)
    }),
}

function withTimes(file: string, change: () => void): void {
  const { atime, mtime } = statSync(file)
  change()
  utimesSync(file, atime, mtime)
}

/** The content with other weights: the last byte differs. */
function other(file: string): Buffer {
  const bytes = readFileSync(file)
  bytes[bytes.length - 1] ^= 1
  return bytes
}

/** Splits a component's weights into two files with an index, as save_pretrained() does for large models. */
function shard(component: string): void {
  const single = join(component, 'diffusion_pytorch_model.safetensors')
  const bytes = readFileSync(single)
  const start = 8 + Number(bytes.readBigUInt64LE())
  type Entry = { dtype: string; shape: number[]; data_offsets: [number, number] }
  const header = JSON.parse(bytes.toString('utf8', 8, start)) as Record<string, Entry>
  delete header.__metadata__
  const weightMap: Record<string, string> = {}
  const entries = Object.entries(header)
  for (const part of [0, 1]) {
    const name = `diffusion_pytorch_model-0000${part + 1}-of-00002.safetensors`
    const own: Record<string, Entry> = {}
    const data: Buffer[] = []
    let offset = 0
    for (const [i, [tensor, { dtype, shape, data_offsets }]] of entries.entries()) {
      if (i % 2 !== part) continue
      const [begin, end] = data_offsets
      own[tensor] = { dtype, shape, data_offsets: [offset, (offset += end - begin)] }
      data.push(bytes.subarray(start + begin, start + end))
      weightMap[tensor] = name
    }
    writeFileSync(join(component, name), Buffer.concat([safetensorsBytes(own), ...data]))
  }
  writeFileSync(
    join(component, 'diffusion_pytorch_model.safetensors.index.json'),
    JSON.stringify({ weight_map: weightMap }),
  )
  rmSync(single)
}

/** The model in every format. */
async function formats(t: Test): Promise<Record<string, string>> {
  const here = folder(t)
  const path = (name: string) => join(here, name)
  for (const name of ['folder', 'sharded']) cpSync(bundledModelPath(), path(name), { recursive: true })
  shard(path('sharded/unet'))
  await quantizeModel(path('folder'), path('model.gguf'), { type: 'f16' })
  return { folder: path('folder'), sharded: path('sharded'), gguf: path('model.gguf') }
}

t.test('between the header and the weights', async (t) => {
  for (const [format, path] of Object.entries(await formats(t))) {
    for (const [how, change] of Object.entries(CHANGES)) {
      const { unet } = await openModel(path)
      const { config, source } = unet!
      const intact = await native().loadUnet(config, source)
      await intact.dispose()
      change(source.files.at(-1)!)
      await t.rejects(
        native().loadUnet(config, source),
        { code: 'IO', message: /changed, replaced or moved after its header was read/ },
        `${format}, ${how}`,
      )
      const again = await openModel(path)
      const loaded = await native().loadUnet(config, again.unet!.source)
      t.pass(`${format}, ${how}: opened again, it loads`)
      await loaded.dispose()
    }
  }
})

t.test('while the header is read', async (t) => {
  const file = join(folder(t), 'file')
  const readWhile = (change: (file: string) => void) => {
    writeFileSync(file, 'some bytes')
    return withFile(file, (handle) => {
      change(file)
      return handle.readFile('utf8')
    })
  }
  const message = /file: was changed or replaced while it was read/
  await t.rejects(readWhile(CHANGES['overwritten in place']), { code: 'IO', message })
  await t.rejects(
    readWhile((path) => writeFileSync(path, 'longer, too')),
    { code: 'IO', message },
  )
  // The file that was opened is still there, without a name; what is read later is another file's.
  t.match(await readWhile(CHANGES['replaced by another file']), /^some byte[rs]$/)
  writeFileSync(file, 'some bytes')
  const failing = withFile(file, () => {
    writeFileSync(file, 'other bytes')
    return Promise.reject(new Error('not the bytes that were expected'))
  })
  await t.rejects(failing, { code: 'IO', message: /was changed/ }, 'what is wrong with it is not reported')
  let reads = 0
  writeFileSync(file, 'some bytes')
  await withFile(file, () => Promise.resolve(reads++))
  t.ok(reads >= 2, 'a file that was written in the same tick of the clock is read again')
})

t.test('while it is quantized, at every chunk', async (t) => {
  const here = folder(t)
  const [model, output] = [join(here, 'model'), join(here, 'out.gguf')]
  const file = join(model, 'vae/diffusion_pytorch_model.safetensors')
  for (const [how, change] of Object.entries(CHANGES)) {
    for (const moment of [0, 0.3, 0.6, 0.97]) {
      cpSync(bundledModelPath(), model, { recursive: true })
      let changed = false
      const onProgress = ({ done, total }: { done: number; total: number }) => {
        if (changed || done < moment * total) return
        changed = true
        change(file)
      }
      const quantizing = quantizeModel(model, output, { type: 'q8_0', onProgress })
      await t.rejects(quantizing, { code: 'IO', message: /after its header was read/ }, `${how}, ${moment}`)
      t.throws(() => statSync(output), 'no output is left')
    }
  }
})

t.test('while it is in use', async (t) => {
  const model = join(folder(t), 'model')
  const file = join(model, 'unet/diffusion_pytorch_model.safetensors')
  for (const [how, change] of Object.entries(CHANGES)) {
    cpSync(bundledModelPath(), model, { recursive: true })
    await using pipe = await DiffusionPipeline.load(model, { lowMemory: true })
    const before = (await pipe.generate(quick)).images[0]
    change(file)
    const run = pipe.generate(quick)
    if (how === 'overwritten in place') await t.rejects(run, { code: 'IO', message: /after it was opened/ })
    // The file that was opened is still there, without a name.
    else t.same((await run).images[0].data, before.data, 'the weights of the file that was opened')
  }
})
