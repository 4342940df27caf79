/** Tiny autoencoders compared with diffusers' AutoencoderTiny (tools/fixtures/tiny_vae.py), with all naming schemes. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { AutoencoderKL, AutoencoderTiny, openModel } from '../../lib/index.js'
import { packageRoot } from '../../lib/package-root.js'
import { native } from '../../lib/native.js'
import { difference } from './compute.js'
import { fixtures, readTensors } from './fixtures.js'

const TOLERANCE = 1e-4
const folder = join(packageRoot(), 'test', 'fixtures', 'tiny-vae')
const golden = readTensors(join(folder, 'golden.safetensors'))
const sizes = [...new Set([...golden.keys()].map((key) => key.slice(0, key.lastIndexOf('/'))))]

function tensor(size: string, key: string) {
  const { data, shape } = golden.get(`${size}/${key}`)!
  return { data: data as Float32Array, shape }
}

for (const model of ['three-levels', 'wide']) {
  t.test(model, async (t) => {
    const files = model === 'wide' ? [model] : [model, `${model}.safetensors`, `${model}-decoder.safetensors`]
    for (const file of files) {
      const vae = await AutoencoderTiny.load(join(folder, file), { precision: 'f32' })
      t.teardown(() => vae.dispose())
      const kinds = file.includes('-decoder') ? (['decode'] as const) : (['decode', 'encode'] as const)
      for (const size of sizes.filter((size) => size.startsWith(`${model}/`))) {
        for (const kind of kinds) {
          const input = tensor(size, kind === 'decode' ? 'latents' : 'image')
          const expected = tensor(size, `${kind}d`)
          let first: Float32Array | undefined
          for (const threads of [1, 3]) {
            native().setThreads(threads)
            for (const tiling of [false, true]) {
              const found = await vae[kind](input, { tiling })
              t.strictSame(found.shape, expected.shape)
              const { error, scale } = difference(found.data, expected.data)
              const name = `${file}: ${kind} ${size}, ${threads} threads, tiling ${tiling}`
              t.ok(error <= TOLERANCE * scale, `${name}: ${error} ≤ ${TOLERANCE * scale}`)
              if (!tiling) first ??= found.data
              if (!tiling)
                t.equal(difference(found.data, first!).error, 0, 'does not depend on the number of threads')
            }
          }
        }
      }
    }
  })
}

t.test('bands take less memory and give the same image', async (t) => {
  const vae = await AutoencoderTiny.load(join(folder, 'three-levels'), { precision: 'f32' })
  t.teardown(() => vae.dispose())
  const [h, w] = [70, 6]
  const data = Float32Array.from({ length: 4 * h * w }, (_, i) => 3 * Math.sin(i * i))
  const whole = await vae.decode({ data, shape: [1, 4, h, w] }, { tiling: false })
  t.ok(vae.decodeBytes(h, w, true) < 0.5 * vae.decodeBytes(h, w, false))
  const banded = await vae.decode({ data, shape: [1, 4, h, w] }, { tiling: true })
  const { error, scale } = difference(banded.data, whole.data)
  // Between whole layers and bands it is kept in half precision.
  t.ok(error <= 2e-3 * scale, `${error} ≤ ${2e-3 * scale}`)
})

t.test('files and calls that are refused', async (t) => {
  const alone = await AutoencoderTiny.load(join(folder, 'three-levels-decoder.safetensors'))
  t.teardown(() => alone.dispose())
  const image = { data: new Float32Array(3 * 64), shape: [1, 3, 8, 8] }
  await t.rejects(alone.encode(image), { code: 'UNSUPPORTED_MODEL', message: /no encoder/ })
  await t.rejects(alone.decode(image), { name: 'RangeError', message: /latents/ })
  await t.rejects(alone.encode({ data: new Float32Array(3 * 60), shape: [1, 3, 10, 6] }), {
    name: 'RangeError',
    message: /multiple of 4 for image\.shape\[2\]/,
  })
  const signal = AbortSignal.abort(new Error('enough'))
  const latents = { data: new Float32Array(4), shape: [1, 4, 1, 1] }
  await t.rejects(alone.decode(latents, { tilling: true } as never), { message: /did you mean tiling/ })
  await t.rejects(alone.decode(latents, { signal }), { message: 'enough' })
  await t.rejects(AutoencoderTiny.load(join(fixtures, 'vae-kl', 'vae')), {
    code: 'UNSUPPORTED_MODEL',
    message: /expected a tiny autoencoder \(TAESD\), found KL autoencoder/,
  })
  await t.rejects(AutoencoderKL.load(join(folder, 'three-levels')), {
    code: 'UNSUPPORTED_MODEL',
    message: /no autoencoder found/,
  })

  const tmp = mkdtempSync(join(tmpdir(), 'node-diffusion-tiny-'))
  t.teardown(() => rmSync(tmp, { recursive: true, force: true }))
  const source = join(folder, 'three-levels')
  writeFileSync(
    join(tmp, 'diffusion_pytorch_model.safetensors'),
    readFileSync(join(source, 'diffusion_pytorch_model.safetensors')),
  )
  const config = JSON.parse(readFileSync(join(source, 'config.json'), 'utf8'))
  for (const [change, message] of [
    [{ act_fn: 'silu' }, /relu for act_fn/],
    [{ upsampling_scaling_factor: 3 }, /2 for upsampling_scaling_factor/],
    [{ decoder_block_out_channels: [8, 8, 16] }, /8 at every level for decoder_block_out_channels/],
    [{ num_decoder_blocks: [2, 1, 2] }, /tensor decoder\.layers\.\d+\.\S+ /],
    [{ latent_channels: 5 }, /expected shape \[5,8,3,3\]/],
  ] as const) {
    writeFileSync(join(tmp, 'config.json'), JSON.stringify({ ...config, ...change }))
    await t.rejects(openModel(tmp), { name: 'DiffusionError', message })
  }
})
