import { readSafetensors } from '../../lib/models/formats/safetensors.js'
import { openModel } from '../../lib/models/index.js'
import {
  freshPath,
  fuzz,
  rejects,
  safetensorsBytes,
  safetensorsHeader,
  t,
  writeSafetensors,
  writeSparse,
} from './helpers.js'
import { TINY_UNET, unetShapes } from './models.js'

t.test('a valid header', async (t) => {
  const path = writeSafetensors(
    freshPath(t, '.safetensors'),
    {
      a: { shape: [2, 3], type: 'F32' },
      b: { shape: [4], type: 'BF16' },
      empty: { shape: [0, 7] },
      scalar: { shape: [], type: 'I64' },
    },
    { format: 'pt' },
  )
  const file = await readSafetensors(path)
  const start = file.tensors.get('a')!.offset
  t.same(file.tensors.get('a'), { name: 'a', type: 'f32', shape: [2, 3], file: 0, offset: start, bytes: 24 })
  t.same(file.tensors.get('b'), {
    name: 'b',
    type: 'bf16',
    shape: [4],
    file: 0,
    offset: start + 24,
    bytes: 8,
  })
  t.equal(file.tensors.get('empty')!.bytes, 0)
  t.equal(file.tensors.get('scalar')!.bytes, 8)
  t.equal(file.metadata.get('format'), 'pt')
})

const good = { dtype: 'F16', shape: [4], data_offsets: [0, 8] }

/** The header, the number of bytes that follow it, and what the message must say. */
// prettier-ignore
const HOSTILE: readonly (readonly [name: string, header: object | string, data: number, message: RegExp])[] = [
  ['not JSON', '{"a":', 0, /not valid JSON/],
  ['no object', '[1,2]', 0, /begins with "\{"/],
  ['a byte order mark', '\ufeff{}', 0, /begins with/],
  ['garbage after the object', '{} x', 0, /not valid JSON/],
  ['an entry that is no object', { a: 3 }, 0, /tensor "a": expected an object, found 3/],
  ['an entry that is null', { a: null }, 0, /tensor "a": expected an object, found null/],
  ['an entry that is a list', { a: [] }, 0, /tensor "a": expected an object/],
  ['no dtype', { a: { shape: [4], data_offsets: [0, 8] } }, 8, /tensor "a": expected dtype to be one of BOOL.*found undefined/],
  ['an unknown dtype', { a: { ...good, dtype: 'F128' } }, 8, /tensor "a": expected dtype.*found "F128"/],
  ['a dtype of lower case', { a: { ...good, dtype: 'f16' } }, 8, /found "f16"/],
  ['a dtype from the prototype', { a: { ...good, dtype: 'constructor' } }, 8, /found "constructor"/],
  ['a shape that is no list', { a: { ...good, shape: 4 } }, 8, /expected shape to be a list of non-negative integers, found 4/],
  ['a negative length', { a: { ...good, shape: [-4] } }, 8, /shape to be a list.*found \[-4\]/],
  ['a fractional length', { a: { ...good, shape: [1.5] } }, 8, /shape to be a list/],
  ['a length as text', { a: { ...good, shape: ['4'] } }, 8, /shape to be a list/],
  ['a length beyond 2^53', { a: { ...good, shape: [2 ** 60] } }, 8, /shape to be a list/],
  ['a product that overflows', { a: { ...good, shape: [2 ** 30, 2 ** 30] } }, 8, /whose bytes can be counted/],
  ['a product that overflows to Infinity', { a: { ...good, shape: Array(16).fill(2 ** 52) } }, 8, /can be counted/],
  ['seventeen dimensions', { a: { ...good, shape: Array(17).fill(1) } }, 8, /at most 16 dimensions, found 17/],
  ['half a byte', { a: { dtype: 'F4', shape: [3], data_offsets: [0, 2] } }, 2, /whole number of bytes/],
  ['no offsets', { a: { dtype: 'F16', shape: [4] } }, 8, /data_offsets to be two/],
  ['three offsets', { a: { ...good, data_offsets: [0, 4, 8] } }, 8, /data_offsets to be two/],
  ['a negative offset', { a: { ...good, data_offsets: [-8, 0] } }, 8, /data_offsets to be two non-negative/],
  ['offsets in descending order', { a: { ...good, data_offsets: [8, 0] } }, 8, /ascending order, found \[8,0\]/],
  ['offsets beyond the file', { a: { ...good, data_offsets: [0, 8] } }, 7, /truncated: the file ends after \d+ of \d+ bytes: download it again/],
  ['an offset far beyond', { a: { ...good, data_offsets: [2 ** 52, 2 ** 52 + 8] } }, 8, /hole of/],
  ['bytes that do not fit the shape', { a: { ...good, shape: [3] } }, 8, /expected 6 bytes for F16 of shape \[3\], found 8/],
  ['overlapping tensors', { a: good, b: { ...good, data_offsets: [4, 12] } }, 12, /"b" overlaps tensor "a"/],
  ['the same bytes twice', { a: good, b: good }, 8, /overlaps/],
  ['a hole at the beginning', { a: { ...good, data_offsets: [2, 10] } }, 10, /hole of 2 bytes between the header and tensor "a"/],
  ['a hole between', { a: good, b: { ...good, data_offsets: [9, 17] } }, 17, /hole of 1 bytes between tensor "a" and tensor "b"/],
  ['bytes left over', { a: good }, 9, /expected the tensors to end at byte/],
  ['a tensor given twice', '{"a":{"dtype":"F16","shape":[4],"data_offsets":[0,8]},"a":{"dtype":"F16","shape":[4],"data_offsets":[0,8]}}', 8, /"a" twice/],
  ['a tensor given twice, escaped', '{"a":{"dtype":"F16","shape":[4],"data_offsets":[0,8]},"\\u0061" : {"dtype":"F16","shape":[4],"data_offsets":[0,8]}}', 8, /"a" twice/],
  ['a field given twice', '{"a":{"dtype":"F16","dtype":"F32","shape":[4],"data_offsets":[0,8]}}', 8, /"dtype" twice/],
  ['__proto__ with fields', '{"a":{"__proto__":{"dtype":"F16","shape":[4],"data_offsets":[0,8]}}}', 8, /tensor "a": expected dtype/],
  ['__proto__ that is no tensor', '{"__proto__":{"polluted":true}}', 0, /tensor "__proto__": expected dtype/],
  ['metadata that is no object', { __metadata__: 'x' }, 0, /__metadata__ to be an object/],
  ['metadata of numbers', { __metadata__: { a: 1 } }, 0, /string for __metadata__ key "a"/],
  ['a name that would move the cursor', { '\u001b[2J\u202e': 1 }, 0, /"\\u001b\[2J\\u202e"/],
  ['a very deep list', `{"a":${'['.repeat(200_000)}${']'.repeat(200_000)}}`, 0, /expected an object|not valid JSON/],
]

t.test('hostile headers', async (t) => {
  for (const [name, header, data, message] of HOSTILE) {
    const path = writeSparse(freshPath(t, '.safetensors'), safetensorsBytes(header), data)
    await rejects(t, readSafetensors(path), 'MODEL_FORMAT', message, name)
    await rejects(t, readSafetensors(path), 'MODEL_FORMAT', /\d\.safetensors: /, `${name} (path)`)
  }
  t.equal(({} as { polluted?: boolean }).polluted, undefined, 'no prototype was changed')
})

t.test('hostile lengths', async (t) => {
  const length = (n: bigint) => {
    const bytes = Buffer.alloc(16, '{')
    bytes.writeBigUInt64LE(n)
    return bytes
  }
  const cases: [string, Buffer, RegExp][] = [
    ['an empty file', Buffer.alloc(0), /expected a safetensors, GGUF or PyTorch file, found an empty one/],
    ['seven bytes', Buffer.alloc(7), /truncated: expected at least 8 bytes, found 7/],
    [
      'a header longer than the file',
      length(9n),
      /the file ends after 16 bytes, but its header alone takes 17/,
    ],
    [
      'a header of 100 MB and more',
      length(100_000_001n),
      /at most 100000000 bytes, found a length of 100000001/,
    ],
    ['a header of 2^64-1', length(2n ** 64n - 1n), /at most 100000000 bytes/],
    ['no header', length(0n), /begins with "\{", found ""/],
    ['invalid UTF-8', Buffer.concat([safetensorsBytes('{"a'), Buffer.from([0xff, 0xfe])]), /./],
    ['invalid UTF-8 in the header', safetensorsBytesOf(Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d])), /UTF-8/],
  ]
  for (const [name, bytes, message] of cases) {
    const path = writeSparse(freshPath(t, '.safetensors'), bytes)
    await rejects(t, openModel(path), 'MODEL_FORMAT', message, name)
  }
})

function safetensorsBytesOf(header: Buffer): Buffer {
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.length))
  return Buffer.concat([length, header])
}

t.test('damaged bytes give a DiffusionError', async (t) => {
  const tensors = Object.fromEntries(
    [...unetShapes(TINY_UNET)].slice(0, 12).map(([name, shape]) => [name, { shape }]),
  )
  const { header, dataBytes } = safetensorsHeader(tensors, { a: 'b' })
  await fuzz(t, safetensorsBytes(header), dataBytes, 1000, freshPath(t, '.safetensors'), readSafetensors)
})

t.test('a damaged header of a whole model gives a DiffusionError', async (t) => {
  const tensors = Object.fromEntries([...unetShapes(TINY_UNET)].map(([name, shape]) => [name, { shape }]))
  const { header, dataBytes } = safetensorsHeader(tensors)
  await fuzz(t, safetensorsBytes(header), dataBytes, 300, freshPath(t, '.safetensors'), openModel)
})
