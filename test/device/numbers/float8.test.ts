/** Weights in float8 with scales on an emulated GPU: they take the file's size, and pictures are those of the CPU. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { bundledModelPath, DiffusionPipeline } from '../../../lib/index.js'
import { openModel } from '../../../lib/models/index.js'
import { safetensorsBytes } from '../../model-files/helpers.js'
import { quick } from '../../pipeline/support.js'
import { bytesOf, decoded } from '../../quant/support.js'
import { emulatedEnvironment, emulatorBuilt, emulatorExpected, psnr } from '../emulated.js'

const skip = !emulatorBuilt && !emulatorExpected
Object.assign(process.env, skip ? {} : emulatedEnvironment())

/** The nearest float8: exponents from 1 − bias, `bits` bits of mantissa. Values must be in range. */
function nearest(x: number, bits: number, bias: number): number {
  const size = Math.abs(x)
  const exponent = Math.max(1 - bias, Math.floor(Math.log2(size)))
  // A mantissa that rounds up to the next power of two carries into the exponent; a subnormal number has no leading one.
  const code = Math.round((size / 2 ** exponent) * 2 ** bits) + (exponent + bias - 1) * 2 ** bits
  return (x < 0 ? 128 : 0) | code
}

const types = {
  F8_E4M3: { bits: 3, bias: 7, largest: 448 },
  F8_E5M2: { bits: 2, bias: 15, largest: 57344 },
}

/** The bundled model's UNet in a file of this type, with ComfyUI's scales. */
async function write(path: string, type: keyof typeof types): Promise<number> {
  const { bits, bias, largest } = types[type]
  const { source } = (await openModel(bundledModelPath())).unet!
  const header: Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }> = {}
  const parts: Uint8Array[] = []
  let [end, matrices] = [0, 0]
  const add = (name: string, dtype: string, shape: number[], bytes: Uint8Array) => {
    header[name] = { dtype, shape, data_offsets: [end, end + bytes.length] }
    end += bytes.length
    parts.push(bytes)
  }
  for (const tensor of source.tensors) {
    const values = await decoded({ ...source, tensors: [tensor] })
    const { name, shape } = tensor
    if (shape.length < 2) {
      add(name, 'F32', shape, bytesOf(values))
      continue
    }
    const scale = Math.fround(values.reduce((max, x) => Math.max(max, Math.abs(x)), 0) / largest)
    add(
      name,
      type,
      shape,
      Uint8Array.from(values, (x) => nearest(x / scale, bits, bias)),
    )
    add(name.replace(/weight$/, 'scale_weight'), 'F32', [], bytesOf(Float32Array.of(scale)))
    matrices += values.length
  }
  writeFileSync(path, Buffer.concat([safetensorsBytes(header), ...parts]))
  return matrices
}

for (const type of ['F8_E4M3', 'F8_E5M2'] as const) {
  t.test(type, { skip }, async (t) => {
    const unet = join(t.testdir(), 'unet.safetensors')
    const matrices = await write(unet, type)
    await using cpu = await DiffusionPipeline.load(undefined, { device: 'cpu', precision: 'f32', unet })
    await using gpu = await DiffusionPipeline.load(undefined, { device: 'cuda', unet })
    t.ok(gpu.unet.weightBytes < 1.15 * matrices, `${gpu.unet.weightBytes} bytes for ${matrices} weights`)
    const [expected] = (await cpu.generate({ ...quick, steps: 1 })).images
    const [image] = (await gpu.generate({ ...quick, steps: 1 })).images
    t.ok(psnr(image, expected) >= 45, `${psnr(image, expected)} dB`)
  })
}
