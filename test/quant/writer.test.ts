/** The GGUF writer: files that can be read again, and errors that leave no partial file. */
import { execFile } from 'node:child_process'
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { DiffusionError } from '../../lib/errors.js'
import { GGML_TYPES, ggmlBytes } from '../../lib/models/formats/gguf-types.js'
import { readGguf } from '../../lib/models/formats/gguf.js'
import { GgufWriter, type GgufTensor } from '../../lib/models/formats/gguf-writer.js'
import { folder, TYPES } from './support.js'

const sizeOf = ({ type, shape }: GgufTensor) => ggmlBytes(type, shape.reduce((a, b) => a * b, 1)) // prettier-ignore

async function writeAll(path: string, tensors: GgufTensor[], piece = 1000): Promise<void> {
  const writer = await GgufWriter.create(
    path,
    { 'general.name': 'Größe', number: 7, list: ['a', ''] },
    tensors,
  )
  for (const [i, tensor] of tensors.entries()) {
    const bytes = new Uint8Array(sizeOf(tensor)).fill(i + 1)
    for (let at = 0; at < bytes.length; at += piece) await writer.write(bytes.subarray(at, at + piece))
  }
  await writer.finish()
}

t.test('every type, with metadata and channels last', async (t) => {
  const dir = folder(t)
  const tensors: GgufTensor[] = TYPES.map((type) => ({
    name: `a ${type}`,
    type,
    shape: [3, 2 * GGML_TYPES[type].elements],
  }))
  tensors.push({ name: 'odd', type: 'f16', shape: [3] })
  tensors.push({ name: 'conv', type: 'q8_0', shape: [5, 64, 3, 2], channelsLast: true })
  tensors.push({ name: 'plain', type: 'f16', shape: [5, 4, 3, 2] })
  const path = dir.path('a.gguf')
  await writeAll(path, tensors)
  const { tensors: read, metadata } = await readGguf(path)
  const bytes = readFileSync(path)
  t.same([...read.keys()], tensors.map(({ name }) => name)) // prettier-ignore
  for (const [i, tensor] of tensors.entries()) {
    const found = read.get(tensor.name)!
    t.same([found.type, found.shape, found.bytes], [tensor.type, tensor.shape, sizeOf(tensor)], tensor.name)
    t.equal(found.channelsLast, tensor.channelsLast)
    t.equal(found.offset % 32, 0)
    const data = bytes.subarray(found.offset, found.offset + found.bytes)
    t.ok(data.every((byte) => byte === i + 1), `${tensor.name}: bytes`) // prettier-ignore
  }
  t.match(Object.fromEntries(metadata), { 'general.name': 'Größe', number: 7, list: ['a', ''] })
  t.same(metadata.get('node_diffusion.channels_last'), ['conv'])
  t.same(dir.files(), ['a.gguf'])
})

t.test('wrong use', async (t) => {
  const dir = folder(t)
  const tensors: GgufTensor[] = [{ name: 'a', type: 'f32', shape: [4] }]
  const writer = await GgufWriter.create(dir.path('a.gguf'), {}, tensors)
  await t.rejects(writer.finish(), /is not complete/)
  await writer.write(new Uint8Array(12))
  await t.rejects(writer.write(new Uint8Array(5)), { name: 'RangeError', message: /has 16 bytes, not 17/ })
  await writer.write(new Uint8Array(4))
  await t.rejects(writer.write(new Uint8Array(1)), RangeError, 'beyond the last tensor')
  await writer.abandon()
  t.same(dir.files(), [], 'no file is left')
  await t.rejects(
    GgufWriter.create(dir.path('b.gguf'), {}, [{ name: 'b', type: 'q8_0', shape: [2, 33] }]),
    /rows of 33 elements of b do not fill q8_0's blocks/,
  )
  t.same(dir.files(), [])
})

t.test('an existing file stays until the new one is complete', async (t) => {
  const dir = folder(t)
  const path = dir.path('a.gguf')
  writeFileSync(path, 'old')
  const writer = await GgufWriter.create(path, {}, [{ name: 'a', type: 'f32', shape: [4] }])
  await writer.write(new Uint8Array(16))
  t.equal(readFileSync(path, 'utf8'), 'old')
  await writer.finish()
  await writer.abandon()
  t.equal((await readGguf(path)).tensors.size, 1)
  t.same(dir.files(), ['a.gguf'])
})

t.test('paths that cannot be written', async (t) => {
  const dir = folder(t)
  const tensors: GgufTensor[] = [{ name: 'a', type: 'f32', shape: [4] }]
  const refused = async (path: string, message: RegExp, list = tensors) => {
    const error = await GgufWriter.create(path, {}, list).then(
      () => t.fail(`${path} was written`),
      (error: unknown) => error,
    )
    t.ok(error instanceof DiffusionError && error.code === 'IO', String(error))
    t.match((error as Error).message, message)
  }
  await refused(dir.path('none/a.gguf'), /Cannot write .*a\.gguf: there is no folder .*none/)
  mkdirSync(dir.path('folder'))
  await refused(dir.path('folder'), /it is a folder/)
  await refused(dir.path('a.gguf'), /no space left on the device \(.* TiB needed, .* free\)/, [
    { name: 'a', type: 'f32', shape: [2 ** 44] },
  ])
  if (process.getuid?.() !== 0) {
    chmodSync(dir.path('folder'), 0o500)
    await refused(dir.path('folder/a.gguf'), /permission denied/)
  }
  t.same(dir.files(), ['folder'])
})

t.test('a disk that becomes full', { skip: process.platform === 'win32' }, async (t) => {
  const dir = folder(t)
  const module = fileURLToPath(new URL('../../lib/models/formats/gguf-writer.js', import.meta.url))
  const script = `
    process.on('SIGXFSZ', () => {}) // the limit's signal would end the process before write() could report anything
    const { GgufWriter } = await import(${JSON.stringify(module)})
    const path = ${JSON.stringify(dir.path('a.gguf'))}
    const writer = await GgufWriter.create(path, {}, [{ name: 'a', type: 'f32', shape: [1 << 20] }])
    try {
      for (let i = 0; i < 4; i++) await writer.write(new Uint8Array(1 << 20))
      await writer.finish()
    } catch ({ code, message }) {
      await writer.abandon()
      console.log(code, message)
    }`
  // A limit of file sizes (in units of 512 or 1024 bytes) acts as a full disk and needs no privileges.
  const command = `ulimit -f 2048 && exec "$0" --input-type=module -e "$1"`
  const { stdout } = await promisify(execFile)('sh', ['-c', command, process.execPath, script])
  t.match(stdout, /^IO Cannot write .*a\.gguf: the file is larger than the file system or a limit/)
  t.same(dir.files(), [], 'no partial file')
})
