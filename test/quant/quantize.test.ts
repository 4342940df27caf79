/** Whole models that are quantized, opened again and used. */
import {
  copyFileSync,
  cpSync,
  existsSync,
  linkSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import t from 'tap'
import { bundledModelPath } from '../../lib/index.js'
import type { GgmlTensorType } from '../../lib/native.js'
import { quantizeModel, type QuantizeOptions } from '../../lib/quantize/index.js'
import { openModel } from '../../lib/models/index.js'
import { compute, load } from '../models/compute.js'
import { cases, copyModel, fixtures, tensor, unpackForms } from '../models/fixtures.js'
import { readSafetensors } from '../../lib/models/formats/safetensors.js'
import { folder, relativeError } from './support.js'

const forms = unpackForms()
t.teardown(() => forms.remove())

/** Relative error of the model's predictions, compared with the golden ones. */
async function predictionError(path: string): Promise<number> {
  const of = cases.find(({ model, kind }) => model === 'sd1' && kind === 'predict')!
  const unet = await load(path, 'unet')
  const error = relativeError(
    (await compute(unet, of)) as Float32Array,
    tensor(of, 'output').data as Float32Array,
  )
  await unet.dispose()
  return error
}

t.test('the predictions of a UNet in each type', async (t) => {
  const dir = folder(t)
  const most: Partial<Record<GgmlTensorType, number>> = {
    f32: 1e-5,
    f16: 2e-3,
    q8_0: 0.03,
    q5_1: 0.15,
    q4_0: 0.3,
    q4_k: 0.25,
  }
  for (const [type, limit] of Object.entries(most) as [GgmlTensorType, number][]) {
    const path = dir.path(`${type}.gguf`)
    const report = await quantizeModel(join(fixtures, 'sd1', 'unet'), path, { type })
    const error = await predictionError(path)
    t.ok(error <= limit, `${type}: ${error}`)
    t.equal(report.groups.reduce((sum, { parameters }) => sum + parameters, 0), report.parameters) // prettier-ignore
    t.equal(readFileSync(path).length, report.fileBytes)
    t.ok(
      report.error < limit && report.error > 0 === (type !== 'f32' && type !== 'f16'),
      `${type}: ${report.error}`,
    )
  }
})

t.test('configuration, schedule and tokenizer do not change', async (t) => {
  const dir = folder(t)
  for (const name of ['folder', 'sd1.safetensors', 'sd1-bf16.gguf', 'sd2.safetensors']) {
    const path = dir.path('model.gguf')
    await quantizeModel(forms.path(name), path, { type: 'Q8_0' as GgmlTensorType })
    const [before, after] = [await openModel(forms.path(name)), await openModel(path)]
    const parts = ({ unet, vae, textEncoders: [textEncoder] }: typeof before) => ({ unet, vae, textEncoder })
    for (const part of ['unet', 'vae', 'textEncoder'] as const) {
      const [old, now] = [parts(before)[part], parts(after)[part]]
      t.equal(now === undefined, old === undefined, `${name}: ${part}`)
      if (!old || !now) continue
      t.same({ ...now, source: 0 }, { ...old, source: 0 }, `${name}: ${part}`)
      t.same(now.source.tensors.map(({ name, shape }) => [name, shape]), old.source.tensors.map(({ name, shape }) => [name, shape])) // prettier-ignore
    }
    const rest = ({ architecture, imageSize, schedule }: typeof before) => ({
      architecture,
      imageSize,
      schedule,
    })
    t.same(rest(after), rest(before), name)
    t.equal(after.format, 'gguf')
  }
})

t.test('trained words and guidance scale do not change', async (t) => {
  const path = folder(t).path('box.gguf')
  await quantizeModel(bundledModelPath(), path, { type: 'q8_0' })
  const [before, after] = [await openModel(bundledModelPath()), await openModel(path)]
  t.ok(before.trainedWords!.length > 500)
  t.same([after.trainedWords, after.guidanceScale], [before.trainedWords, 3])
})

t.test('a quantized file can be quantized again', async (t) => {
  const dir = folder(t)
  const [first, second, third] = ['a.gguf', 'b.gguf', 'c.gguf'].map(dir.path)
  await quantizeModel(join(fixtures, 'sd1', 'unet'), first, { type: 'q8_0' })
  const report = await quantizeModel(first, second, { type: 'q8_0' })
  t.equal(report.error < 1e-4, true, 'the same blocks are found again')
  t.equal(readFileSync(second).length, readFileSync(first).length)
  await quantizeModel(second, third, { type: 'q4_0' })
  t.ok(readFileSync(third).length < readFileSync(first).length)
  t.ok((await predictionError(third)) < 0.35)
})

t.test('a model is never written over itself', async (t) => {
  const dir = folder(t)
  const [path, hard, soft] = ['a.gguf', 'hard.gguf', 'soft.gguf'].map(dir.path)
  await quantizeModel(join(fixtures, 'sd1', 'unet'), path, { type: 'q8_0' })
  linkSync(path, hard)
  symlinkSync('a.gguf', soft)
  const before = readFileSync(path)
  const refused = { name: 'RangeError', message: /^Expected an output that is not a file of the model "/ }
  for (const [input, output] of [
    [path, path],
    [path, `${dir.path('.')}/../${basename(dir.path('.'))}/a.gguf`],
    [path, hard],
    [path, soft],
    [soft, path],
    [hard, path],
  ])
    await t.rejects(quantizeModel(input, output, { type: 'q4_0' }), refused, `${input} → ${output}`)
  t.ok(readFileSync(path).equals(before))

  const model = dir.path('model')
  cpSync(join(fixtures, 'sd1'), model, { recursive: true })
  symlinkSync(model, dir.path('link'))
  const weights = 'unet/diffusion_pytorch_model.safetensors'
  for (const [input, output] of [
    [model, join(model, weights)],
    [join(model, 'unet'), join(model, weights)],
    [model, join(model, 'unet/config.json')],
    [dir.path('link'), join(model, 'unet/config.json')],
    [model, join(dir.path('link'), weights)],
  ])
    await t.rejects(quantizeModel(input, output, { type: 'q4_0' }), refused, `${input} → ${output}`)
  t.same(readdirSync(join(model, 'unet')).sort(), readdirSync(join(fixtures, 'sd1', 'unet')).sort())

  for (const name of ['a.safetensors', 'a.ckpt', 'a.PNG'])
    await t.rejects(quantizeModel(model, dir.path(name), { type: 'q4_0' }), {
      name: 'RangeError',
      message: /^Expected a name that ends in \.gguf for output but received /,
    })

  await quantizeModel(join(model, 'unet'), join(model, 'q8_0.gguf'), { type: 'q8_0' })
  await quantizeModel(join(model, 'unet'), join(model, 'q8_0.gguf'), { type: 'q8_0' })
  t.ok(existsSync(join(model, 'q8_0.gguf')), 'new and existing GGUF files are allowed')
})

t.test('progress, and an abort that leaves no partial file', async (t) => {
  const dir = folder(t)
  const input = join(fixtures, 'sd1', 'unet')
  const seen: number[] = []
  await quantizeModel(input, dir.path('a.gguf'), {
    type: 'q8_0',
    onProgress({ done, total, tensor }) {
      seen.push(done / total)
      if (done < total) t.match(tensor, /^unet\./)
    },
  })
  t.same(seen, [...seen].sort((a, b) => a - b)) // prettier-ignore
  t.same([seen[0], seen.at(-1)], [0, 1])

  const reason = new Error('enough')
  for (const at of [0, 5, seen.length - 1]) {
    const abort = new AbortController()
    let calls = 0
    const options: QuantizeOptions = {
      type: 'q8_0',
      signal: abort.signal,
      onProgress: () => void (calls++ === at && abort.abort(reason)),
    }
    const path = dir.path(`aborted-${at}.gguf`)
    await t.rejects(quantizeModel(input, path, options), reason, `call ${at}`)
    t.equal(existsSync(path), false)
  }
  await t.rejects(
    quantizeModel(input, dir.path('b.gguf'), { type: 'q8_0', signal: AbortSignal.abort(reason) }),
    reason,
  )
  const failing = { type: 'q8_0' as const, onProgress: () => { throw reason } } // prettier-ignore
  await t.rejects(quantizeModel(input, dir.path('c.gguf'), failing), reason, 'a listener that throws')
  t.same(dir.files(), ['a.gguf'])
})

t.test('weights that a type cannot represent are refused by name', async (t) => {
  const dir = folder(t)
  const copy = join(copyModel(t, 'sd1'), 'unet')
  const file = join(copy, 'diffusion_pytorch_model.safetensors')
  const { tensors } = await readSafetensors(file)
  const { offset, type } = tensors.get('mid_block.resnets.0.conv1.weight')!
  const bytes = readFileSync(file)
  t.equal(type, 'f16')
  for (const value of [0x7e00, 0x7c00, 0xfc00]) {
    bytes.writeUInt16LE(value, offset + 4)
    writeFileSync(file, bytes)
    await t.rejects(
      quantizeModel(copy, dir.path('a.gguf'), { type: 'q8_0' }),
      {
        code: 'MODEL_FORMAT',
        message:
          /unet\.mid_block\.resnets\.0\.conv1\.weight holds NaN, infinity.*add the rule unet\.mid.*=f32/,
      },
      value.toString(16),
    )
    await quantizeModel(copy, dir.path('b.gguf'), { type: 'q8_0', rules: '*mid*conv1.weight=f32' })
  }
  t.same(dir.files(), ['b.gguf'])
})

t.test('damaged quantized files', async (t) => {
  const dir = folder(t)
  const path = dir.path('a.gguf')
  await quantizeModel(join(fixtures, 'sd1', 'unet'), path, { type: 'q4_0' })
  const bytes = readFileSync(path)
  const model = await openModel(path)
  const last = model.unet!.source.tensors.reduce((a, b) => (a.offset > b.offset ? a : b))
  writeFileSync(path, bytes.subarray(0, last.offset + last.bytes - 1))
  await t.rejects(openModel(path), {
    code: 'MODEL_FORMAT',
    message: /the file ends after \d+ of \d+ bytes: download it again/,
  })
  // The file is truncated after it has been opened: the engine checks it again.
  await t.rejects(quantizeModel(path, dir.path('b.gguf'), { type: 'q8_0' }), { code: 'MODEL_FORMAT' })
  const { native } = await import('../../lib/native.js')
  await t.rejects(native().loadUnet(model.unet!.config, model.unet!.source), {
    code: 'IO',
    message: /after its header was read/,
  })
  // Random bytes in the blocks give neither an error nor a crash.
  const noise = Buffer.from(bytes)
  for (let i = bytes.length >> 1; i < bytes.length; i++) noise[i] = (i * 2654435761) >>> 24
  writeFileSync(path, noise)
  await t.resolves(predictionError(path))
  t.same(dir.files(), ['a.gguf'])
})

t.test('wrong options', async (t) => {
  const dir = folder(t)
  const input = join(fixtures, 'sd1', 'unet')
  const call = (options: unknown, output: unknown = dir.path('a.gguf'), from: unknown = input) =>
    quantizeModel(from as string, output as string, options as QuantizeOptions)
  await t.rejects(call(undefined), TypeError)
  await t.rejects(call({}), {
    name: 'TypeError',
    message: /Expected one of f32, .* for type but received undefined/,
  })
  await t.rejects(call({ type: 'q4_k_m' }), { name: 'RangeError', message: /did you mean q4_k/ })
  await t.rejects(call({ type: 'q8_0', rule: '' }), { name: 'TypeError', message: /did you mean rules/ })
  await t.rejects(call({ type: 'q8_0', rules: 'x' }), RangeError)
  await t.rejects(call({ type: 'q8_0', signal: 1 }), TypeError)
  await t.rejects(call({ type: 'q8_0', onProgress: 1 }), TypeError)
  await t.rejects(call({ type: 'q8_0' }, ''), RangeError)
  await t.rejects(call({ type: 'q8_0' }, 5), TypeError)
  await t.rejects(call({ type: 'q8_0' }, dir.path('none/a.gguf')), { code: 'IO' })
  await t.rejects(call({ type: 'q8_0' }, undefined, dir.path('none')), { code: 'MODEL_NOT_FOUND' })
  copyFileSync(join(fixtures, 'versions.json'), dir.path('x.gguf'))
  await t.rejects(call({ type: 'q8_0' }, undefined, dir.path('x.gguf')), { code: 'MODEL_FORMAT' })
  t.same(dir.files(), ['x.gguf'])
})
