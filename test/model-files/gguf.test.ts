import { readGguf } from '../../lib/models/formats/gguf.js'
import { openModel } from '../../lib/models/index.js'
// prettier-ignore
import {
  freshPath, fuzz, GGML_BLOCKS, ggufBytes, pair, rejects, stringPair, stringsPair, t, text, u32, u64, u8, writeGguf, writeSparse,
  type GgufOptions, type TestTensor,
} from './helpers.js'
import { TINY_VAE, vaeShapes } from './models.js'

const CHANNELS_LAST = 'node_diffusion.channels_last'

t.test('every type, with dimensions in torch order', async (t) => {
  const tensors: Record<string, TestTensor> = {}
  for (const [number, [name, elements]] of Object.entries(GGML_BLOCKS)) {
    tensors[name] = { shape: [3, 2 * elements], type: Number(number) }
  }
  for (const version of [2, 3]) {
    const path = writeGguf(freshPath(t, '.gguf'), tensors, { version })
    const file = await readGguf(path)
    t.equal(file.tensors.size, Object.keys(tensors).length)
    let end = 0
    for (const [, [name, elements, bytes]] of Object.entries(GGML_BLOCKS)) {
      const tensor = file.tensors.get(name)!
      t.equal(tensor.type, name)
      t.same(tensor.shape, [3, 2 * elements], `${name}: shape`)
      t.equal(tensor.bytes, 6 * bytes, `${name}: bytes`)
      t.equal(tensor.offset % 32, 0)
      t.equal(tensor.offset >= end, true)
      end = Math.max(end, tensor.offset + tensor.bytes)
    }
  }
})

t.test('metadata of every type', async (t) => {
  // prettier-ignore
  const path = writeGguf(freshPath(t, '.gguf'), { a: { shape: [1] } }, {
    alignment: 64,
    pairs: [
      pair('general.alignment', 4, u32(64)),
      pair('u8', 0, u8(200)),
      pair('i8', 1, u8(200)),
      pair('u16', 2, Buffer.from([1, 2])),
      pair('i16', 3, Buffer.from([255, 255])),
      pair('i32', 5, u32(2 ** 32 - 7)),
      pair('f32', 6, Buffer.from(new Float32Array([1.5]).buffer)),
      pair('yes', 7, u8(1)),
      stringPair('text', 'Größe'),
      pair('u64', 10, u64(2n ** 64n - 1n)),
      pair('i64', 11, u64(2n ** 64n - 5n)),
      pair('f64', 12, Buffer.from(new Float64Array([0.1]).buffer)),
      pair('nested', 9, Buffer.concat([u32(9), u64(2), u32(0), u64(1), u8(7), u32(8), u64(1), text('x')])),
      stringsPair('list', ['a', '']),
    ],
  })
  const { metadata, tensors } = await readGguf(path)
  // prettier-ignore
  t.same(Object.fromEntries(metadata), {
    'general.alignment': 64, u8: 200, i8: -56, u16: 513, i16: -1, i32: -7, f32: 1.5, yes: true, text: 'Größe',
    u64: 2n ** 64n - 1n, i64: -5, f64: 0.1, nested: [[7], ['x']], list: ['a', ''],
  })
  t.equal(tensors.get('a')!.offset % 64, 0)
})

t.test('a header of several megabytes is read in steps', async (t) => {
  const vocabulary = Array.from({ length: 150_000 }, (_, i) => `token number ${i}`)
  const path = writeGguf(
    freshPath(t, '.gguf'),
    { a: { shape: [5], type: 0 } },
    { pairs: [stringsPair('vocabulary', vocabulary)] },
  )
  const { metadata, tensors } = await readGguf(path)
  t.same(metadata.get('vocabulary'), vocabulary)
  t.equal(tensors.get('a')!.bytes, 20)
})

t.test('convolutions stored channels last', async (t) => {
  const path = writeGguf(
    freshPath(t, '.gguf'),
    { conv: { shape: [6, 3, 5, 32], type: 8 }, other: { shape: [6, 32, 3, 5] } },
    { pairs: [stringsPair(CHANNELS_LAST, ['conv'])] },
  )
  const { tensors } = await readGguf(path)
  t.match(tensors.get('conv'), { shape: [6, 32, 3, 5], channelsLast: true, type: 'q8_0', bytes: 6 * 15 * 34 })
  t.match(tensors.get('other'), { shape: [6, 32, 3, 5], channelsLast: undefined })
})

const one: Record<string, TestTensor> = { a: { shape: [4, 32] } }
const two: Record<string, TestTensor> = { a: { shape: [4, 32] }, b: { shape: [4, 32] } }
const huge = 2n ** 63n

/** Changes of a valid file, and what the message must say. */
// prettier-ignore
const HOSTILE: readonly (readonly [name: string, tensors: typeof one, options: GgufOptions, message: RegExp])[] = [
  ['more tensors than fit', one, { tensorCount: 9000 }, /truncated: number of tensors is 9000/],
  ['more tensors than there are', one, { tensorCount: 2 }, /./],
  ['an absurd number of tensors', one, { tensorCount: huge }, /number of tensors of at most 16384, found 9223372036854775808/],
  ['an absurd number of pairs', one, { pairCount: huge }, /number of metadata pairs of at most 65536/],
  ['a key given twice', one, { pairs: [stringPair('k', 'a'), stringPair('k', 'b')] }, /key "k" is given twice/],
  ['a key of an absurd length', one, { pairs: [Buffer.concat([u64(huge), u32(0)])] }, /length of a metadata key of at most 1024/],
  ['a key that is not UTF-8', one, { pairs: [Buffer.concat([u64(1), u8(0xff), u32(0), u8(0)])] }, /metadata key in UTF-8/],
  ['a string longer than the file', one, { pairs: [pair('k', 8, u64(1 << 20))] }, /truncated: length of metadata "k" is 1048576/],
  ['a string of an absurd length', one, { pairs: [pair('k', 8, u64(huge))] }, /length of metadata "k" of at most/],
  ['an unknown value type', one, { pairs: [pair('k', 13, u64(0))] }, /value type from 0 to 12 for metadata "k", found 13/],
  ['a boolean of 2', one, { pairs: [pair('k', 7, u8(2))] }, /expected 0 or 1 for metadata "k", found 2/],
  ['an array of an absurd length', one, { pairs: [pair('k', 9, Buffer.concat([u32(0), u64(huge)]))] }, /number of elements of metadata "k"/],
  ['arrays too deep', one, { pairs: [pair('k', 9, Buffer.concat(Array.from({ length: 9 }, () => Buffer.concat([u32(9), u64(1)]))))] }, /at most 4 deep/],
  ['an alignment of 0', one, { pairs: [pair('general.alignment', 4, u32(0))] }, /general.alignment to be a power of two.*found 0/],
  ['an alignment of 48', one, { pairs: [pair('general.alignment', 4, u32(48))] }, /power of two.*found 48/],
  ['an alignment as text', one, { pairs: [stringPair('general.alignment', '32')] }, /power of two.*found "32"/],
  ['five dimensions', one, { info: { a: { dims: [1, 1, 1, 1, 1] } } }, /tensor "a": expected at most 4 dimensions, found 5/],
  ['a dimension beyond 2^53', one, { info: { a: { dims: [huge] } } }, /a dimension of tensor "a" below 2\^53/],
  ['a product that overflows', one, { info: { a: { dims: [2 ** 40, 2 ** 40] } } }, /tensor "a": expected a shape whose bytes/],
  ['a type that no one defined', one, { info: { a: { type: 999 } } }, /tensor "a": expected a type that ggml defines, found 999/],
  ['rows that fill no block', { a: { shape: [4, 33], type: 1 } }, { info: { a: { type: 8 } } }, /multiple of 32 elements for q8_0, found 33/],
  ['an unaligned offset', two, { info: { b: { offset: 257 } } }, /tensor "b": expected an offset that is a multiple of 32, found 257/],
  ['an offset beyond 2^53', two, { info: { b: { offset: huge } } }, /offset of tensor "b" below 2\^53/],
  ['an offset beyond the file', two, { info: { b: { offset: 1 << 20 } } }, /hole of 1048320 bytes/],
  ['a shape beyond the file', one, { info: { a: { dims: [32, 400] } } }, /truncated: the file ends after 352 of 25696 bytes: download it again/],
  ['overlapping tensors', two, { info: { b: { offset: 128 } } }, /tensor "b" overlaps tensor "a"/],
  ['a hole', { ...two, c: { shape: [64] } }, { info: { a: { dims: [16] } } }, /hole of 224 bytes between tensor "a" and tensor "b"/],
  ['channels last of no tensor', one, { pairs: [stringsPair(CHANNELS_LAST, ['x'])] }, /channels_last names "x", which is not a tensor/],
  ['channels last of a matrix', one, { pairs: [stringsPair(CHANNELS_LAST, ['a'])] }, /tensor "a": expected 4 dimensions.*found \[4,32\]/],
  ['channels last that is no list', one, { pairs: [stringPair(CHANNELS_LAST, 'a')] }, /channels_last to be an array/],
]

t.test('hostile headers', async (t) => {
  for (const [name, tensors, options, message] of HOSTILE) {
    const path = writeGguf(freshPath(t, '.gguf'), tensors, options)
    await rejects(t, openModel(path), 'MODEL_FORMAT', message, name)
    await rejects(t, openModel(path), 'MODEL_FORMAT', /\d\.gguf: /, `${name} (path)`)
  }
  const { head } = ggufBytes(one)
  const twice = Buffer.concat([
    head.subarray(0, 8),
    u64(2),
    head.subarray(16, 24),
    head.subarray(24, 65),
    head.subarray(24, 65),
  ])
  await rejects(
    t,
    openModel(writeSparse(freshPath(t, '.gguf'), twice, 4096)),
    'MODEL_FORMAT',
    /"a" is described twice/,
    'a repeated name',
  )
})

t.test('a file that ends anywhere in its header', async (t) => {
  const { head } = ggufBytes(two, { pairs: [stringPair('k', 'value'), stringsPair('l', ['a', 'b'])] })
  for (let length = 4; length < head.length; length++) {
    const path = writeSparse(freshPath(t, '.gguf'), head.subarray(0, length))
    await rejects(t, readGguf(path), 'MODEL_FORMAT', /truncated|end within/, `${length} bytes`)
  }
})

t.test('valid files that are not supported', async (t) => {
  const cases: [string, GgufOptions, RegExp][] = [
    ['version 1', { version: 1 }, /GGUF version 2 or 3, found 1/],
    ['version 4', { version: 4 }, /GGUF version 2 or 3, found 4/],
    ['big-endian', { version: 0x03000000 }, /big-endian/],
    ['iq2_xxs', { info: { a: { type: 16 } } }, /tensor "a": expected type f32, f16.*found iq2_xxs/],
    ['mxfp4', { info: { a: { type: 39 } } }, /tensor "a".*found mxfp4/],
  ]
  for (const [name, options, message] of cases) {
    await rejects(
      t,
      openModel(writeGguf(freshPath(t, '.gguf'), one, options)),
      'UNSUPPORTED_MODEL',
      message,
      name,
    )
  }
})

t.test('damaged bytes give a DiffusionError', async (t) => {
  const options = {
    pairs: [
      stringPair('general.name', 'x'),
      pair('general.alignment', 4, u32(32)),
      stringsPair('l', ['a', 'b']),
    ],
  }
  const { head, dataBytes } = ggufBytes({ ...two, q: { shape: [3, 64], type: 8 } }, options)
  await fuzz(t, head, dataBytes, 1500, freshPath(t, '.gguf'), readGguf)
})

t.test('a damaged header of a whole model gives a DiffusionError', async (t) => {
  const layout = [...vaeShapes(TINY_VAE)].map(([name, shape]) => [name, { shape }])
  const { head, dataBytes } = ggufBytes(Object.fromEntries(layout) as Record<string, TestTensor>)
  await fuzz(t, head, dataBytes, 300, freshPath(t, '.gguf'), openModel)
})
