/** Merged models draw the pictures of the model with the LoRA. */
import { copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { applyLora } from '../../lib/adapters/index.js'
import { DiffusionPipeline, mergeModel, openModel, quantizeModel } from '../../lib/index.js'
import { bundledModelPath } from '../../lib/pipeline/diffusion-pipeline.js'
import { packageRoot } from '../../lib/package-root.js'
import type { TensorEntry } from '../../lib/native.js'

const fixtures = join(packageRoot(), 'test', 'fixtures', 'adapters')
const temporary = () => {
  const path = mkdtempSync(join(tmpdir(), 'node-diffusion-merge-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}
const folder = temporary()
const model = bundledModelPath()
const KINDS = ['kohya', 'dora']
const loras = KINDS.map((name) => ({ path: join(fixtures, `${name}.safetensors`), scale: 0.8 }))

async function latents(path: string, given: typeof loras): Promise<Float32Array> {
  await using pipe = await DiffusionPipeline.load(path, { precision: 'f32', loras: given })
  const result = await pipe.generate({ prompt: 'noto pizza', seed: 1, steps: 2, outputType: 'latents' })
  return result.latents!.data
}

t.test('in float32 a merged model gives the same latents, bit for bit', async (t) => {
  const output = join(folder, 'f32.gguf')
  const report = await mergeModel(model, output, { loras, type: 'f32' })
  t.match(report, { output, type: 'f32', error: 0, adapters: [{ kind: 'LoCon' }, { kind: 'DoRA' }] })
  t.equal(readFileSync(output).length, report.fileBytes)
  t.strictSame(await latents(output, []), await latents(model, loras))
})

t.test('by default tensors keep their types, and what does not change keeps its bytes', async (t) => {
  const bytes = (path: string, { offset, bytes }: TensorEntry) =>
    readFileSync(path).subarray(offset, offset + bytes)
  for (const type of ['f16', 'q4_k'] as const) {
    const [base, output] = [join(folder, `${type}.gguf`), join(folder, `${type}-merged.gguf`)]
    await quantizeModel(model, base, { type })
    const progress: number[] = []
    const onProgress = ({ done }: { done: number }) => progress.push(done)
    const report = await mergeModel(base, output, { loras: [loras[0]], rules: 'vae.*=f32', onProgress })
    t.strictSame(report.unusedRules, [])
    t.equal(progress.at(-1), report.parameters)
    const [before, after] = [await openModel(base), await openModel(output)]
    const changed: string[] = []
    for (const [i, tensor] of before.unet!.source.tensors.entries()) {
      const merged = after.unet!.source.tensors[i]
      t.strictSame([merged.name, merged.type], [tensor.name, tensor.type])
      if (!bytes(base, tensor).equals(bytes(output, merged))) changed.push(tensor.name)
    }
    await applyLora(before, loras[0])
    const expected = before.unet!.source.tensors.filter(({ adapters }) => adapters)
    t.ok(expected.length > 60)
    t.strictSame(changed, expected.map(({ name }) => name)) // prettier-ignore
    t.ok(after.vae!.source.tensors.every((tensor) => tensor.type === 'f32'))
  }
})

t.test('a merged model is never written over its parts, and a failed merge leaves no file', async (t) => {
  const base = join(temporary(), 'x')
  const own = base + '.gguf'
  copyFileSync(loras[0].path, own)
  const message = /^Expected an output that is not a file of the model "/
  await t.rejects(mergeModel(model, own, { loras: [own] }), { name: 'RangeError', message }, 'a LoRA file')
  await t.rejects(mergeModel(model, join(folder, 'a.safetensors'), { loras }), {
    message: /ends in \.gguf for output/,
  })
  for (const [given, message] of [
    [{}, /Expected array of paths for loras/],
    [{ loras: [] }, /Expected at least 1 path for loras/],
    [{ loras, scale: 1 }, /Unknown option options\.scale|Unknown option scale/],
    [{ loras, type: 'q9' }, /for type/],
  ] as const)
    await t.rejects(mergeModel(model, join(folder, 'x.gguf'), given as never), { message })
  await t.rejects(mergeModel(model, '', { loras }), { message: /Expected a path for output/ })
  const output = join(folder, 'aborted.gguf')
  const abort = new AbortController()
  const onProgress = ({ done }: { done: number }) => done > 0 && abort.abort()
  await t.rejects(mergeModel(model, output, { loras, signal: abort.signal, onProgress }), {
    name: 'AbortError',
  })
  await t.rejects(mergeModel(model, output, { loras: [{ path: join(fixtures, 'cases.json') }] }))
  t.notOk(existsSync(output))
  t.strictSame(
    readdirSync(folder).filter((name) => !name.endsWith('.gguf')),
    [],
    'nothing else is left',
  )
})
