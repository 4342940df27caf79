/** `kernels: 'portable'`: the bytes of one table of kernels on every CPU of an architecture. */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { bundledModelPath, cpuInfo, DiffusionPipeline, quantizeModel, VqModel } from '../../lib/index.js'
import { packageRoot } from '../../lib/package-root.js'

const portable = process.arch === 'arm64' ? 'neon' : 'avx2'
const lora = join(packageRoot(), 'test', 'fixtures', 'adapters', 'kohya.safetensors')
const root = mkdtempSync(join(tmpdir(), 'node-diffusion-kernels-'))
t.teardown(() => rmSync(root, { recursive: true, force: true }))

/** The pictures of a process whose kernels are `kernels`, as hashes. */
async function inProcess(kernels: string, model: string, options: object): Promise<string[]> {
  const library = new URL('../../lib/index.js', import.meta.url).href
  const script = `
    import { createHash } from 'node:crypto'
    import { DiffusionPipeline } from ${JSON.stringify(library)}
    const hash = ({ images }) => createHash('sha256').update(images[0].data).digest('hex')
    const request = { prompt: 'noto pizza', seed: 1, steps: 2 }
    const pipe = await DiffusionPipeline.load(${JSON.stringify(model)}, ${JSON.stringify(options)})
    const hashes = [hash(await pipe.generate(request))]
    hashes.push(hash(await pipe.generate({ ...request, loras: [${JSON.stringify(lora)}] })))
    await pipe.dispose()
    process.stdout.write('\\nresult ' + JSON.stringify(hashes))`
  const env = { ...process.env, NODE_DIFFUSION_KERNELS: kernels }
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], {
    env,
  })
  return JSON.parse(stdout.slice(stdout.lastIndexOf('\nresult ') + '\nresult '.length)) as string[]
}

t.test('pictures are those of the portable kernels, whatever kernels the process has', async (t) => {
  const { kernels } = cpuInfo()
  if (!kernels.includes(portable)) {
    const loading = DiffusionPipeline.load(undefined, { kernels: 'portable' })
    await t.rejects(loading, { code: 'DEVICE_UNAVAILABLE', message: /need a CPU with the instruction set/ })
    return
  }
  const quantized = join(root, 'q8_0.gguf')
  await quantizeModel(bundledModelPath(), quantized, { type: 'q8_0' })
  for (const [model, options] of [
    [bundledModelPath(), {}],
    [bundledModelPath(), { precision: 'bf16' }],
    [quantized, {}],
    [quantized, { lowMemory: true }],
  ] as const) {
    const name = `${model === quantized ? 'q8_0' : 'f16'} ${JSON.stringify(options)}`
    const expected = await inProcess(portable, model, options)
    t.not(expected[0], expected[1], `${name}: the LoRA changes the picture`)
    const chosen = { ...options, kernels: 'portable' }
    t.strictSame(await inProcess(kernels[0], model, chosen), expected, `${name}, ${kernels[0]}`)
    // The reference kernels are slow: one of the models.
    if (options.precision) t.strictSame(await inProcess('ref', model, chosen), expected, `${name}, ref`)
    // Where there are faster kernels, they give other bits.
    if (kernels[0] === 'avx512') t.notSame(await inProcess('avx512', model, options), expected, name)
  }
})

t.test('components take them as well', async (t) => {
  if (!cpuInfo().kernels.includes(portable)) return
  const image = {
    data: Float32Array.from({ length: 3 * 64 * 64 }, (_, i) => Math.sin(i)),
    shape: [1, 3, 64, 64],
  }
  const encode = async (kernels: 'auto' | 'portable') => {
    await using vq = await VqModel.load(undefined, { kernels })
    const { latents } = await vq.encode(image)
    return createHash('sha256').update(latents.data).digest('hex')
  }
  const expected = await encode('portable')
  t.equal(await encode('portable'), expected)
  if (cpuInfo().kernel === 'avx512') t.not(await encode('auto'), expected)
})

t.test('wrong values', async (t) => {
  const load = (options: object) => DiffusionPipeline.load(undefined, options)
  await t.rejects(load({ kernels: 'avx2' }), {
    name: 'RangeError',
    message: /^Expected one of auto, portable for kernels but received "avx2"/,
  })
  await t.rejects(load({ kernels: 'portable', device: 'cuda' }), {
    name: 'TypeError',
    message: "Expected 'auto' for kernels with device 'cuda', but received 'portable'",
  })
})
