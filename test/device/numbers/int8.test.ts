/** q8_0 weights on an emulated GPU: decoded, or multiplied as int8, as NODE_DIFFUSION_CUDA_INT8 says. */
import { join } from 'node:path'
import t from 'tap'
import { bundledModelPath, DiffusionPipeline, Image, quantizeModel } from '../../../lib/index.js'
import { quick } from '../../pipeline/support.js'
import { emulatedEnvironment, emulatorBuilt, emulatorExpected, inProcess, psnr } from '../emulated.js'

const skip = !emulatorBuilt && !emulatorExpected

t.test('pictures of q8_0 weights', { skip }, async (t) => {
  const file = join(t.testdir(), 'model.gguf')
  await quantizeModel(bundledModelPath(), file, { type: 'q8_0' })
  const request = { ...quick, steps: 4, guidanceScale: 3 }
  const draw = async (int8: string) => {
    const [width, height, data] = (await inProcess(
      { ...emulatedEnvironment(), NODE_DIFFUSION_CUDA_INT8: int8 },
      `const pipe = await nd.DiffusionPipeline.load(${JSON.stringify(file)}, { device: 'cuda' })
       const [{ width, height, data }] = (await pipe.generate(${JSON.stringify(request)})).images
       await pipe.dispose()
       return [width, height, Buffer.from(data).toString('base64')]`,
    )) as [number, number, string]
    return new Image(width, height, Uint8Array.from(Buffer.from(data, 'base64')))
  }
  const reference = async (path: string | undefined) => {
    await using cpu = await DiffusionPipeline.load(path, {
      device: 'cpu',
      precision: 'f32',
      lowMemory: false,
    })
    return (await cpu.generate(request)).images[0]
  }
  const decoded = await draw('0')
  const exact = psnr(decoded, await reference(file))
  t.ok(exact >= 45, `decoded: ${exact} dB`)
  const int8 = await draw('always')
  // What int8 on the CPU is held to, see test/quant/images.test.ts.
  const likeness = psnr(int8, await reference(undefined))
  t.ok(likeness >= 38, `int8: ${likeness} dB`)
  t.notSame(int8.data, decoded.data)
})
