/** An autoencoder whose activations are beyond half precision, compared with diffusers (tools/fixtures/wide_vae.py). */
import { join } from 'node:path'
import t from 'tap'
import { AutoencoderKL } from '../../lib/index.js'
import { packageRoot } from '../../lib/package-root.js'
import { difference } from './compute.js'
import { readTensors } from './fixtures.js'

const folder = join(packageRoot(), 'test', 'fixtures', 'wide-vae')
const golden = readTensors(join(folder, 'golden.safetensors'))
const tolerances = { f32: 1e-5, bf16: 5e-2 }

for (const precision of ['f32', 'bf16'] as const)
  t.test(precision, async (t) => {
    await using vae = await AutoencoderKL.load(folder, { device: 'cpu', precision })
    for (const size of ['1x5x7', '2x4x6']) {
      const tensor = (name: string) => {
        const { data, shape } = golden.get(`${size}/${name}`)!
        return { data: data as Float32Array, shape }
      }
      const close = (found: Float32Array, expected: Float32Array, what: string) => {
        const { error, scale } = difference(found, expected)
        t.ok(error <= tolerances[precision] * scale, `${size}, ${what}: ${error} of ${scale}`)
      }
      for (const tiling of [false, true]) {
        const { data } = await vae.decode(tensor('latents'), { tiling })
        close(data, tensor('decoded').data, `decode, tiling ${tiling}`)
      }
      const { mean, logvar } = await vae.encode(tensor('image'))
      const { data, shape } = tensor('moments')
      const half = data.length / shape[0] / 2
      for (let i = 0; i < shape[0]; i++) {
        const [begin, middle, end] = [0, 1, 2].map((part) => (2 * i + part) * half)
        close(mean.data.subarray(i * half, (i + 1) * half), data.subarray(begin, middle), 'mean')
        close(logvar.data.subarray(i * half, (i + 1) * half), data.subarray(middle, end), 'log variance')
      }
    }
  })
