import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from '../../lib/package-root.js'
import { gunzipSync } from 'node:zlib'
import { openModel } from '../../lib/models/index.js'
import { readPickle } from '../../lib/models/formats/pickle/index.js'
import { readExactly, withFile, type TensorFile } from '../../lib/models/formats/tensor-file.js'
import { ZipArchive, type ZipEntry } from '../../lib/models/formats/zip.js'
import { native } from '../../lib/native.js'
import { compute, load } from '../models/compute.js'
import { cases, unpackForms } from '../models/fixtures.js'
import { freshPath, rejects, safetensorsHeader, t, writeSafetensors, writeSparse } from './helpers.js'
import { dictionary, global, op, pickle, text, torchZip, zipBytes } from './pickles.js'

const folder = join(packageRoot(), 'test', 'fixtures', 'pickles')
const fixture = (name: string) => join(folder, `${name}.pt`)
type Expected = Record<string, Record<string, { type: string; shape: number[]; bytes: string }>>
const expected = JSON.parse(readFileSync(join(folder, 'expected.json'), 'utf8')) as Expected

/** The bytes of a tensor in row-major order, as torch would have them after contiguous(). */
function bytesOf(file: TensorFile, name: string): string {
  const { offset, bytes, shape, channelsLast } = file.tensors.get(name)!
  const data = readFileSync(file.path).subarray(offset, offset + bytes)
  if (!channelsLast) return data.toString('hex')
  const [outputs, inputs, height, width] = shape as [number, number, number, number]
  const size = bytes / (outputs * inputs * height * width)
  const moved: Buffer[] = []
  for (let o = 0; o < outputs; o++)
    for (let i = 0; i < inputs; i++)
      for (let p = 0; p < height * width; p++) {
        const at = ((o * height * width + p) * inputs + i) * size
        moved.push(data.subarray(at, at + size))
      }
  return Buffer.concat(moved).toString('hex')
}

for (const [name, tensors] of Object.entries(expected)) {
  if (name === 'strided') continue
  t.test(`${name}.pt`, async (t) => {
    const file = await readPickle(fixture(name))
    t.equal(file.format, 'pickle')
    t.same([...file.tensors.keys()].sort(), Object.keys(tensors).sort(), 'names')
    for (const [key, { type, shape, bytes }] of Object.entries(tensors)) {
      const found = file.tensors.get(key)!
      t.match(found, { name: key, type, shape, file: 0, bytes: bytes.length / 2 }, key)
      t.equal(found.problem, undefined)
      t.equal(bytesOf(file, key), bytes, `${key}: bytes`)
    }
  })
}

t.test('views of storages', async (t) => {
  const { tensors } = await readPickle(fixture('zip'))
  const at = (name: string) => tensors.get(name)!.offset - tensors.get('whole')!.offset
  t.same(['shared', 'row', 'rows', 'ones'].map(at), [0, 48, 24, 36])
  t.equal(tensors.get('kernel')!.channelsLast, true)
  const strided = await readPickle(fixture('strided'))
  t.equal(strided.tensors.get('whole')!.problem, undefined)
  for (const name of ['transposed', 'column', 'expanded'])
    t.match(strided.tensors.get(name)!.problem, /strides .* not contiguous/, name)
})

t.test('metadata', async (t) => {
  const { metadata } = await readPickle(fixture('trainer'))
  t.same([metadata.get('global_step'), metadata.get('pytorch-lightning_version')], [470_000, '1.4.2'])
})

t.test('models', async (t) => {
  const forms = unpackForms()
  t.teardown(() => forms.remove())
  native().setThreads(2)
  for (const component of ['vae', 'unet'] as const) {
    const path = freshPath(t, '.ckpt')
    writeFileSync(path, gunzipSync(readFileSync(join(folder, `${component}.ckpt.gz`))))
    const [from, to] = [await load(path, component), await load(forms.path('sd1.safetensors'), component)]
    for (const of of cases.filter((c) => c.model === 'forms' && c.component === component))
      t.same(await compute(from, of), await compute(to, of), `${of.name}: the same as from safetensors`)
    await from.dispose()
    await to.dispose()
    t.equal((await openModel(path)).format, 'pickle')
  }
})

t.test('a tensor that a model needs and the engine cannot read', async (t) => {
  const path = freshPath(t, '.ckpt')
  writeSparse(path, gunzipSync(readFileSync(join(folder, 'vae.ckpt.gz'))))
  const entries = await withFile(path, async (file, size) => {
    const zip = await ZipArchive.open(path, file, size)
    const read = async (entry: ZipEntry) => readExactly(path, file, await zip.locate(entry), entry.bytes)
    return Promise.all(
      [...zip.entries.values()].map(async (entry) => ({ name: entry.name, content: await read(entry) })),
    )
  })
  const pack = (deflated: RegExp) =>
    writeSparse(
      freshPath(t, '.ckpt'),
      zipBytes(entries.map((e) => ({ ...e, deflated: deflated.test(e.name) }))),
    )
  t.ok((await openModel(pack(/data\.pkl$/))).vae, 'a compressed pickle is read')
  // As archives of more than 4 GB are written.
  const wide = writeSparse(freshPath(t, '.ckpt'), zipBytes(entries, entries.length, true))
  const [first, second] = [await openModel(wide), await openModel(pack(/^$/))]
  t.same(first.vae!.source.tensors, second.vae!.source.tensors, 'zip64')
  await rejects(
    t,
    openModel(pack(/data\/7$/)),
    'UNSUPPORTED_MODEL',
    /tensor .* is compressed in its zip archive: save it again with torch.save/,
    'a compressed storage',
  )
  const broken = entries.map((e) => ({ ...e, name: e.name.replace(/data\/7$/, 'data/none') }))
  await rejects(
    t,
    openModel(writeSparse(freshPath(t, '.ckpt'), zipBytes(broken))),
    'MODEL_FORMAT',
    /expected the zip entry ".*data\/7" for a storage, found none/,
    'a missing storage',
  )
})

t.test('what is not a model in PyTorch’s format', async (t) => {
  const code = pickle(dictionary('x', op(global('os', 'system'), text('true'), op(0x85, 'R'))))
  const cases: [string, Buffer, 'UNSUPPORTED_MODEL' | 'MODEL_FORMAT', RegExp][] = [
    ['code', torchZip(code), 'UNSUPPORTED_MODEL', /uses the Python object "os.system", which is refused/],
    ['a pickle of Python', code, 'UNSUPPORTED_MODEL', /"os.system"/],
    ['another pickle', pickle(text('x')), 'UNSUPPORTED_MODEL', /not one that torch.save\(\) has written/],
    [
      'another zip archive',
      zipBytes([{ name: 'model/weights.npy', content: Buffer.alloc(9) }]),
      'UNSUPPORTED_MODEL',
      /a zip archive, but not one of torch.save\(\): it holds "model\/weights.npy"/,
    ],
    [
      'TorchScript',
      zipBytes(
        ['data.pkl', 'constants.pkl'].map((name) => ({ name: `x/${name}`, content: pickle(op('N')) })),
      ),
      'UNSUPPORTED_MODEL',
      /TorchScript/,
    ],
    [
      'another byte order',
      zipBytes([
        { name: 'x/data.pkl', content: pickle(op('}')) },
        { name: 'x/byteorder', content: Buffer.from('big') },
      ]),
      'UNSUPPORTED_MODEL',
      /big-endian/,
    ],
    ['no tensors', torchZip(pickle(op('}'))), 'MODEL_FORMAT', /found no tensors/],
    ['a number', torchZip(pickle(op('K', 3))), 'MODEL_FORMAT', /expected a dictionary of tensors .* found 3/],
    ['half a download', readFileSync(fixture('zip')).subarray(0, 3000), 'MODEL_FORMAT', /truncated/],
    ['half an older file', readFileSync(fixture('legacy')).subarray(0, 3000), 'MODEL_FORMAT', /truncated/],
  ]
  for (const [name, bytes, errorCode, message] of cases)
    await rejects(t, openModel(writeSparse(freshPath(t, '.ckpt'), bytes)), errorCode, message, name)
  // A safetensors header of 0x280 bytes begins like a pickle.
  const tensors = { x: { shape: [1] } }
  const length = (note: string) => JSON.stringify(safetensorsHeader(tensors, { note }).header).length
  const note = 'x'.repeat(0x280 - length(''))
  t.equal(length(note), 0x280)
  const path = writeSafetensors(freshPath(t, '.ckpt'), tensors, { note })
  await rejects(t, openModel(path), 'MODEL_FORMAT', /expected the tensors of a UNet/, 'a header of 640 bytes')
})
