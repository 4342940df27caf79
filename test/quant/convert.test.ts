/** The native function that converts tensors, and the engine's checks of wrong descriptions of quantized tensors. */
import t from 'tap'
import { native, type GgmlTensorType } from '../../lib/native.js'
import { GGML_TYPES, ggmlBytes } from '../../lib/models/formats/gguf-types.js'
import { bytesOf, decoded, folder, oneTensor, QUANTIZED, relativeError, TYPES, weights } from './support.js'

// prettier-ignore
const MOST: Record<GgmlTensorType, number> = {
  f32: 0, f16: 3e-4, bf16: 3e-3, q8_0: 0.006, q5_0: 0.045, q5_1: 0.04, q4_0: 0.09, q4_1: 0.082, q6_k: 0.018,
  q5_k: 0.037, q4_k: 0.074, q3_k: 0.16, q2_k: 0.29,
}

t.test('every type to float32 and back, whole and in chunks, with the reported error', async (t) => {
  const dir = folder(t)
  const shape = [6, 512]
  const x = weights(6 * 512)
  const source = oneTensor(dir.path('source'), 'f32', shape, bytesOf(x))
  for (const type of TYPES) {
    const whole = await native().convertRows(source, type, false, 0, 6)
    t.equal(whole.bytes.length, ggmlBytes(type, x.length), type)
    const pieces = await Promise.all(
      [0, 2, 4].map((row) => native().convertRows(source, type, false, row, 2)),
    )
    t.same(Buffer.concat(pieces.map(({ bytes }) => bytes)), Buffer.from(whole.bytes), `${type}: pieces`)
    const back = await decoded(oneTensor(dir.path(type), type, shape, whole.bytes))
    const error = relativeError(back, x)
    t.ok(error <= MOST[type] && error >= MOST[type] / 3, `${type}: ${error}`)
    t.ok(Math.abs(Math.sqrt(whole.squaredError / whole.squaredNorm) - error) <= 1e-6, `${type}: reported`)
  }
})

t.test('convolutions with channels last', async (t) => {
  const dir = folder(t)
  const shape = [2, 64, 3, 3]
  const x = weights(2 * 64 * 9)
  const source = oneTensor(dir.path('source'), 'f32', shape, bytesOf(x))
  for (const type of ['f32', 'q8_0'] as const) {
    const { bytes } = await native().convertRows(source, type, true, 0, 2)
    const back = await decoded(oneTensor(dir.path(type), type, shape, bytes, true))
    t.ok(relativeError(back, x) <= MOST[type], type)
  }
  await t.rejects(async () => native().convertRows(source, 'q8_0', false, 0, 1), {
    name: 'RangeError',
    message: /rows of 3 elements, which do not fill blocks of 32 of type q8_0/,
  })
})

t.test('wrong arguments', async (t) => {
  const dir = folder(t)
  const source = oneTensor(dir.path('f32'), 'f32', [4, 64], bytesOf(weights(256)))
  const n = native()
  t.throws(
    () => n.convertRows({ ...source, tensors: [] }, 'f16', false, 0, 1),
    /Expected 1 element in source.tensors/,
  )
  t.throws(() => n.convertRows(source, 'q9' as GgmlTensorType, false, 0, 1), {
    code: 'UNSUPPORTED_MODEL',
    message: /q9.*known are/,
  })
  for (const [first, count] of [
    [0, 5],
    [4, 1],
    [-1, 1],
    [0, 0],
    [0, 2 ** 31],
    [0.5, 1],
    [NaN, 1],
  ])
    // prettier-ignore
    t.throws(() => n.convertRows(source, 'f16', false, first, count), RangeError, `rows ${first}, ${count}`)
  t.throws(() => n.convertRows(source, 'f16', 1 as never, 0, 1), TypeError)
  const cancel = new n.CancelToken()
  cancel.cancel()
  const error: unknown = await n
    .convertRows(source, 'f16', false, 0, 1, cancel)
    .catch((error: unknown) => error)
  t.equal((error as { cancelled?: boolean }).cancelled, true)
})

t.test('wrong descriptions of quantized tensors', async (t) => {
  const dir = folder(t)
  for (const type of QUANTIZED) {
    const { elements, bytes } = GGML_TYPES[type]
    const good = oneTensor(dir.path(type), type, [2, elements], new Uint8Array(2 * bytes))
    const lie = (change: object) => ({ ...good, tensors: [{ ...good.tensors[0], ...change }] })
    const refused = (change: object, message: RegExp) =>
      t.rejects(
        native().convertRows(lie(change), 'f32', false, 0, 1),
        { code: 'MODEL_FORMAT', message },
        type,
      )
    await t.resolves(native().convertRows(good, 'f32', false, 0, 2), type)
    await refused({ bytes: 2 * bytes - 1 }, new RegExp(`needs ${2 * bytes} bytes but has ${2 * bytes - 1}`))
    await refused({ offset: 1 }, /ends at byte \d+ but the file has \d+/)
    await refused({ shape: [3, elements], bytes: 3 * bytes }, /ends at byte/)
    await refused({ shape: [1, elements + 1], bytes }, /needs -1 bytes/)
    // Blocks may run across rows, as in files that hold their tensors as rows of 256 elements.
    const random = weights(2 * elements).map((x) => Math.abs(x) % 1)
    const { bytes: coded } = await native().convertRows(
      oneTensor(dir.path(`${type}-f32`), 'f32', [2, elements], bytesOf(random)),
      type,
      false,
      0,
      2,
    )
    const whole = await decoded(oneTensor(dir.path(type), type, [2, elements], coded))
    for (const shape of [
      [4, elements / 2],
      [2, elements / 4, 2, 2],
      [elements, 2, 1, 1],
    ])
      t.same(await decoded(oneTensor(dir.path(type), type, shape, coded)), whole, `${type} [${shape}]`)
  }
})

t.test('blocks with random bits can be decoded', async (t) => {
  const dir = folder(t)
  for (const type of QUANTIZED) {
    const { elements, bytes } = GGML_TYPES[type]
    for (const fill of [0, 0x7c, 0x7f, 0xff]) {
      const source = oneTensor(
        dir.path(`${type}-${fill}`),
        type,
        [8, elements],
        new Uint8Array(8 * bytes).fill(fill),
      )
      t.equal((await decoded(source)).length, 8 * elements)
    }
  }
})
