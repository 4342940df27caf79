/** Images of the bundled model from every file format and in every precision, on any number of threads. */
import t from 'tap'
import { DiffusionPipeline, bundledModelPath, type LoadOptions } from '../../lib/index.js'
import { native, type GgmlTensorType } from '../../lib/native.js'
import { quantizeModel } from '../../lib/quantize/index.js'
import { folder, QUANTIZED } from './support.js'

/** The options are explicit where the defaults of the bundled model and of a file differ. */
const request = { prompt: 'noto pizza', steps: 4, seed: 3, guidanceScale: 3 }

const threadsBefore = native().cpu().threads
t.teardown(() => native().setThreads(threadsBefore))
const dir = folder(t)

async function draw(path: string, options: LoadOptions = {}): Promise<Uint8Array> {
  const pipe = await DiffusionPipeline.load(path, options)
  const { images } = await pipe.generate(request)
  await pipe.dispose()
  return images[0].data
}

function psnr(a: Uint8Array, b: Uint8Array): number {
  let sum = 0
  for (let i = 0; i < b.length; i++) sum += (a[i] - b[i]) ** 2
  return a.length === b.length ? 10 * Math.log10(255 ** 2 / (sum / b.length)) : NaN
}

async function quantized(type: GgmlTensorType): Promise<string> {
  const path = dir.path(`${type}.gguf`)
  await quantizeModel(bundledModelPath(), path, { type })
  return path
}

t.test('every quantized type gives the same image within its precision', async (t) => {
  const truth = await draw(bundledModelPath(), { precision: 'f32' })
  // dB; another seed's image has 13.
  // prettier-ignore
  const least: Partial<Record<GgmlTensorType, number>> = {
    q8_0: 38, q6_k: 36, q5_k: 28, q5_1: 28, q5_0: 25, q4_k: 27, q4_1: 22, q4_0: 24, q3_k: 22, q2_k: 19,
  }
  t.same(Object.keys(least).sort(), [...QUANTIZED].sort(), 'no type is missing')
  for (const type of QUANTIZED) {
    const likeness = psnr(await draw(await quantized(type)), truth)
    t.ok(likeness >= least[type]!, `${type}: ${likeness.toFixed(1)} dB`)
  }
})

t.test('1, 2 and 4 threads give the same bytes', async (t) => {
  const subjects: [string, string, LoadOptions][] = [
    ['f32', bundledModelPath(), { precision: 'f32' }],
    ['bf16', bundledModelPath(), { precision: 'bf16' }],
    ['int8', bundledModelPath(), { precision: 'int8' }],
  ]
  for (const type of ['q8_0', 'q5_1', 'q4_0', 'q4_k', 'q2_k'] as const)
    subjects.push([type, await quantized(type), {}])
  for (const [name, path, options] of subjects) {
    // The number of threads is set before loading, because packing also uses threads.
    const all = []
    for (const threads of [1, 2, 4]) all.push(await draw(path, { ...options, threads }))
    t.ok(Buffer.from(all[0]).equals(all[1]), `${name}: 2 threads`)
    t.ok(Buffer.from(all[0]).equals(all[2]), `${name}: 4 threads`)
    t.ok(new Set(all[0]).size > 20, `${name}: the image is not blank`)
  }
})
