/**
 * The GPU through the package itself, for tools/device-check.sh: devices, pictures of the bundled model on the GPU beside the
 * CPU, quantized weights, times. Needs dist/, the addon and the kernels (`npm run build`, `npm run build:cuda`).
 *
 *   node tools/device-api.mjs --json out.json [--steps 20]
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { bundledModelPath, DiffusionPipeline, listDevices, quantizeModel } from '../dist/index.js'

const { values } = parseArgs({
  options: { json: { type: 'string' }, steps: { type: 'string', default: '20' } },
})
const work = mkdtempSync(join(tmpdir(), 'device-api-'))
const options = { prompt: 'noto pizza', seed: 1, guidanceScale: 3, steps: Number(values.steps) }

/** Peak signal-to-noise ratio in dB. */
function psnr(a, b) {
  let squares = 0
  for (let i = 0; i < a.length; i++) squares += (a[i] - b[i]) ** 2
  return 10 * Math.log10((255 * 255 * a.length) / squares)
}

let failed = 0
const result = { devices: await listDevices(), pictures: [] }
try {
  for (const type of [undefined, 'q8_0', 'q4_k']) {
    const path = type === undefined ? bundledModelPath() : join(work, `${type}.gguf`)
    if (type) await quantizeModel(bundledModelPath(), path, { type })
    const cpu = await DiffusionPipeline.load(path, { device: 'cpu', precision: 'f32', lowMemory: false })
    const gpu = await DiffusionPipeline.load(path, { device: 'cuda' })
    const expected = (await cpu.generate(options)).images[0].data
    await gpu.generate(options) // records the graphs
    const { images, timings } = await gpu.generate(options)
    const decibels = psnr(images[0].data, expected)
    const merging = { ...options, tokenMerging: 0.5 }
    const [ofCpu, ofGpu] = [
      (await cpu.generate(merging)).images[0].data,
      (await gpu.generate(merging)).images[0].data,
    ]
    // Rounding may decide about a few tokens.
    const merged = psnr(ofGpu, ofCpu)
    if (!(decibels >= 40 && merged >= 25)) failed++
    const weights = { type: type ?? 'f16', unetBytes: gpu.unet.weightBytes }
    result.pictures.push({ ...weights, device: gpu.device, decibels, merged, timings })
    console.log(
      `${weights.type} on ${gpu.device}: ${decibels.toFixed(1)} dB, ${merged.toFixed(1)} dB with merged tokens, ${timings.total.toFixed(0)} ms, ${weights.unetBytes} bytes`,
    )
    await Promise.all([cpu.dispose(), gpu.dispose()])
  }
} finally {
  rmSync(work, { recursive: true, force: true })
}
console.log(`${result.pictures.length - failed} passed, ${failed} failed`)
if (values.json) writeFileSync(values.json, JSON.stringify(result, null, 1))
process.exitCode = failed > 0 ? 1 : 0
