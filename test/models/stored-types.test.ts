/** Weights in f8 with scales, and in GGUF files whose blocks run across rows, compute what their values say. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { packageRoot } from '../../lib/package-root.js'
import { quantizeModel } from '../../lib/quantize/index.js'
import { openModel } from '../../lib/models/index.js'
import { readSafetensors } from '../../lib/models/formats/safetensors.js'
import { native, type GgmlTensorType } from '../../lib/native.js'
import { ggufBytes, pair, safetensorsBytes, stringPair, text, u32, u64 } from '../model-files/helpers.js'
import { bytesOf, decoded, folder, oneTensor } from '../quant/support.js'
import { compute, load } from './compute.js'
import { cases, unpackForms } from './fixtures.js'

const forms = unpackForms()
t.teardown(() => forms.remove())
native().setThreads(2)
const UNET = 'model.diffusion_model.'
const prediction = cases.find(({ model, kind }) => model === 'forms' && kind === 'predict')!

interface Weights {
  name: string
  shape: number[]
  values: Float32Array
}

/** The UNet of the forms. Its values have two significant bits. */
async function unetWeights(): Promise<Weights[]> {
  const file = await readSafetensors(forms.path('sd1.safetensors'))
  const entries = [...file.tensors.values()].filter(({ name }) => name.startsWith(UNET))
  return Promise.all(
    entries.map(async ({ name, shape, offset, bytes }) => {
      const entry = { name, type: 'f16', shape, file: 0, offset, bytes } as const
      return { name, shape, values: await decoded({ files: [file.path], tensors: [entry] }) }
    }),
  )
}

async function predict(path: string, precision: 'f32' | 'auto' = 'f32') {
  const unet = await load(path, 'unet', precision)
  const found = await compute(unet, prediction)
  await unet.dispose()
  return found
}

/** Writes a safetensors file of these bytes. */
function write(path: string, tensors: Record<string, { dtype: string; shape: number[]; bytes: Uint8Array }>) {
  let end = 0
  const header = Object.fromEntries(
    Object.entries(tensors).map(([name, { dtype, shape, bytes }]) => {
      const begin = end
      end += bytes.length
      return [name, { dtype, shape, data_offsets: [begin, end] }]
    }),
  )
  writeFileSync(
    path,
    Buffer.concat([safetensorsBytes(header), ...Object.values(tensors).map((x) => x.bytes)]),
  )
  return path
}

/** The codes of values that the type holds exactly, by torch's own table. */
function encoder(type: string) {
  const bytes = readFileSync(join(packageRoot(), 'test', 'fixtures', 'quant', `decode-${type}.bin`))
  const values = new Float32Array(new Uint8Array(bytes.subarray(4 + 256)).buffer)
  const codes = new Map([...values].map((value, code) => [value, code]).reverse() as [number, number][])
  return (x: Float32Array, factor: number) =>
    Uint8Array.from(x, (value) => {
      const code = codes.get(value / factor)
      if (code === undefined) throw new Error(`${type} has no ${value / factor}`)
      return code
    })
}

for (const type of ['f8_e4m3', 'f8_e5m2'] as const) {
  t.test(`${type}, plain and with scales`, async (t) => {
    const encode = encoder(type)
    const dir = folder(t)
    const expected = await predict(forms.path('sd1.safetensors'))
    const weights = await unetWeights()
    for (const scaled of ['', 'scale_weight', 'weight_scale']) {
      const tensors: Parameters<typeof write>[1] = {}
      const one = (value: number) => ({ dtype: 'F32', shape: [], bytes: bytesOf(Float32Array.of(value)) })
      for (const [i, { name, shape, values }] of weights.entries()) {
        if (shape.length < 2) {
          tensors[name] = { dtype: 'F32', shape, bytes: bytesOf(values) }
          continue
        }
        // Scales that are powers of two leave the values exact.
        const factor = scaled ? [2, 0.5, 4][i % 3] : 1
        tensors[name] = { dtype: type.toUpperCase(), shape, bytes: encode(values, factor) }
        if (!scaled) continue
        const layer = name.replace(/weight$/, '')
        tensors[layer + scaled] = one(factor)
        tensors[layer + (scaled === 'scale_weight' ? 'scale_input' : 'input_scale')] = one(7)
      }
      const dtype = type.toUpperCase()
      if (scaled === 'scale_weight')
        tensors[`${UNET}scaled_fp8`] = { dtype, shape: [2], bytes: Buffer.alloc(2) }
      if (scaled === 'weight_scale')
        tensors[`${UNET}out.2.comfy_quant`] = { dtype: 'U8', shape: [2], bytes: Buffer.from('{}') }
      const path = write(dir.path(`${type}${scaled}.safetensors`), tensors)
      t.same(await predict(path), expected, `${scaled || 'no scales'}: float32`)
      t.same(
        await predict(path, 'auto'),
        await predict(forms.path('sd1.safetensors'), 'auto'),
        `${scaled || 'no scales'}: automatic, as from f16`,
      )
      const quantized = dir.path('quantized.gguf')
      const report = await quantizeModel(path, quantized, { type: 'f16' })
      t.equal(report.error, 0, 'f16 holds the values')
      t.same(await predict(quantized), expected, 'quantized to f16')
      const small = await quantizeModel(path, quantized, { type: 'q8_0' })
      t.ok(small.error > 0 && small.error < 0.01, `q8_0: ${small.error}`)
    }
  })
}

t.test('scales that cannot be used', async (t) => {
  const dir = folder(t)
  const weights = await unetWeights()
  const encode = encoder('f8_e4m3')
  const layer = `${UNET}time_embed.0.`
  const save = (scale: { dtype: string; shape: number[]; bytes: Uint8Array }) => {
    const tensors: Parameters<typeof write>[1] = {}
    for (const { name, shape, values } of weights)
      tensors[name] =
        name === `${layer}weight`
          ? { dtype: 'F8_E4M3', shape, bytes: encode(values, 1) }
          : { dtype: 'F32', shape, bytes: bytesOf(values) }
    return write(dir.path('x.safetensors'), { ...tensors, [`${layer}scale_weight`]: scale })
  }
  for (const [scale, message] of [
    [{ dtype: 'F32', shape: [1], bytes: bytesOf(Float32Array.of(NaN)) }, /scale NaN/],
    [{ dtype: 'F32', shape: [2], bytes: Buffer.alloc(8) }, /scale of type f32 and shape \[2\]/],
    [{ dtype: 'F16', shape: [], bytes: Buffer.alloc(2) }, /scale of type f16/],
  ] as const)
    await t.rejects(openModel(save({ ...scale, shape: [...scale.shape] })), {
      code: 'UNSUPPORTED_MODEL',
      message,
    })
})

t.test('GGUF files as ComfyUI-GGUF writes them', async (t) => {
  const dir = folder(t)
  const weights = await unetWeights()
  for (const type of ['q8_0', 'q4_0', 'q4_k', 'q5_k'] as const) {
    const number = { q8_0: 8, q4_0: 2, q4_k: 12, q5_k: 13 }[type]
    const stored: Record<string, { shape: number[]; type: number }> = {}
    const plain: Parameters<typeof write>[1] = {}
    const data: Buffer[] = []
    const pairs = [stringPair('general.architecture', 'sd1')]
    let rearranged = 0
    for (const { name, shape, values } of weights) {
      const short = name.slice(UNET.length)
      const flat = shape.length > 1 && values.length % 256 === 0
      let bytes = bytesOf(values)
      let kept = values
      if (flat) {
        const rows = [values.length / 256, 256]
        const coded = await convert(dir.path('x'), 'f32', rows, bytes, type)
        kept = await decoded(oneTensor(dir.path('x'), type, rows, coded))
        bytes = coded
        stored[short] = { shape: rows, type: number }
        const lengths = Buffer.concat(shape.map((length) => u32(length)))
        pairs.push(
          pair(`comfy.gguf.orig_shape.${short}`, 9, Buffer.concat([u32(5), u64(shape.length), lengths])),
        )
        rearranged++
      } else {
        stored[short] = { shape, type: 0 }
      }
      plain[name] = { dtype: 'F32', shape, bytes: bytesOf(kept) }
      data.push(Buffer.from(bytes), Buffer.alloc((32 - (bytes.length % 32)) % 32))
    }
    t.ok(rearranged > 10)
    const path = dir.path(`${type}.gguf`)
    writeFileSync(path, Buffer.concat([ggufBytes(stored, { pairs }).head, ...data]))
    const reference = write(dir.path('plain.safetensors'), plain)
    t.same(await predict(path), await predict(reference), `${type}: float32`)
    t.equal((await predict(path, 'auto')).every(Number.isFinite), true, `${type}: automatic`)
    const again = await quantizeModel(path, dir.path('again.gguf'), { type: 'q8_0' })
    t.ok(again.error < 0.02, `${type}: quantized again: ${again.error}`)
  }
  const lie = (key: string, value: Buffer) => {
    const { head, dataBytes } = ggufBytes(
      { x: { shape: [2, 256], type: 0 } },
      { pairs: [pair(key, 9, value)] },
    )
    const path = dir.path('lie.gguf')
    writeFileSync(path, Buffer.concat([head, Buffer.alloc(dataBytes)]))
    return openModel(path)
  }
  for (const lengths of [[2, 3], [], [1, 1, 1, 1, 512], [-2, -256]])
    await t.rejects(
      lie('comfy.gguf.orig_shape.x', Buffer.concat([u32(5), u64(lengths.length), ...lengths.map(i32)])),
      { code: 'MODEL_FORMAT', message: /expected a shape of 512 elements, found/ },
      `[${lengths}]`,
    )
  await t.rejects(lie('comfy.gguf.orig_shape.x', Buffer.concat([u32(8), u64(1), text('x')])), {
    message: /expected a shape of 512 elements/,
  })
})

const i32 = (value: number) => Buffer.from(new Int32Array([value]).buffer)

async function convert(
  path: string,
  from: GgmlTensorType,
  shape: number[],
  bytes: Uint8Array,
  to: GgmlTensorType,
): Promise<Uint8Array> {
  const source = oneTensor(path, from, shape, bytes)
  return (await native().convertRows(source, to, false, 0, shape[0])).bytes
}
