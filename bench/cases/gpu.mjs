/** What a GPU waits for: the host's own part of a picture. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { brotliCompressSync } from 'node:zlib'
import { library, median } from './support.mjs'

const driver = fileURLToPath(new URL('../../build/Release/libcuda-emulated-driver.so', import.meta.url))

/**
 * Pictures on an emulated GPU whose kernels compute nothing: medians in milliseconds of what is left, by part. Copies take the
 * time that they take within the host's memory, calls of the driver are the emulator's.
 */
export async function host({ model, size, steps = 20, pictures = 40 }) {
  if (!existsSync(driver)) throw new Error('There is no emulator: run `npm run test:ts` first')
  const kernels = mkdtempSync(join(tmpdir(), 'kernels-'))
  writeFileSync(join(kernels, 'kernels.br'), brotliCompressSync('[["sm_80.cubin",7]]\nkernels'))
  Object.assign(process.env, {
    NODE_DIFFUSION_CUDA_DRIVER: driver,
    NODE_DIFFUSION_CUDA_KERNELS: kernels,
    NODE_DIFFUSION_CUDA_TILES: '0',
    ND_EMULATED_COMPUTES: '0',
    ND_EMULATED_MEMORY_MB: '40000',
  })
  const { DiffusionPipeline } = await library()
  const request = { prompt: 'a blue cat', scheduler: 'euler', steps, width: size, height: size }
  const parts = {}
  try {
    const pipe = await DiffusionPipeline.load(model, { device: 'cuda' })
    for (let seed = 0; seed < pictures + 10; seed++) {
      const { timings } = await pipe.generate({ ...request, seed })
      // The first ones compile JavaScript.
      for (const part in timings) if (seed >= 10) (parts[part] ??= []).push(timings[part])
    }
    await pipe.dispose()
  } finally {
    rmSync(kernels, { recursive: true, force: true })
  }
  return Object.fromEntries(Object.entries(parts).map(([part, list]) => [`${part}Ms`, median(list)]))
}
