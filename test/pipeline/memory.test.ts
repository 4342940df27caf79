/** Models that do not fit into memory are refused before their weights are read. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { DiffusionPipeline } from '../../lib/index.js'
import { cgroupLimit, requireMemoryForWeights } from '../../lib/memory.js'
import { leastWeightBytes } from '../../lib/pipeline/memory-plan.js'
import { openModel } from '../../lib/models/index.js'
import { bundledModelPath } from '../../lib/index.js'
import { originalUnetName, tensorsOf, TINY_VAE, unetShapes, vaeShapes } from '../model-files/models.js'
import { writeSafetensors } from '../model-files/helpers.js'
import { allocatesNothing } from '../hostile/refusal.js'

function folder(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'node-diffusion-memory-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

t.test('a model larger than memory', async (t) => {
  // Sparse: the file takes no space on the disk.
  const unet = {
    ...{ inChannels: 4, outChannels: 4, contextWidth: 32_768, normGroups: 32, normEps: 1e-5 },
    ...{ blockChannels: [16_384, 32_768], layersPerBlock: [2, 2], heads: [8, 8], freqShift: 0 },
    ...{
      downTransformerDepth: [1, 1],
      upTransformerDepth: [1, 1],
      midTransformerDepth: 1,
      flipSinToCos: true,
    },
  }
  const path = writeSafetensors(join(folder(t), 'huge.safetensors'), {
    ...tensorsOf(unetShapes(unet), (name) => `model.diffusion_model.${originalUnetName(name, unet)}`),
    ...tensorsOf(vaeShapes(TINY_VAE), (name) => `vae.${name}`),
  })
  const message =
    /huge\.safetensors: the weights would need at least \d+\.\d [GT]iB of memory, but this process may use .*iB, of which .* are in use\. Possible solutions: lowMemory: true, or/
  await t.rejects(DiffusionPipeline.load(path), { code: 'OUT_OF_MEMORY', message })
  await t.rejects(DiffusionPipeline.load(path, { lowMemory: false }), { code: 'OUT_OF_MEMORY', message })
  await allocatesNothing(t, 20, () => DiffusionPipeline.load(path))
})

t.test('what weights take at least', async (t) => {
  for (const precision of ['auto', 'f32', 'bf16', 'int8'] as const) {
    for (const lowMemory of [false, undefined, true]) {
      await using pipe = await DiffusionPipeline.load(undefined, { precision, lowMemory })
      const { unet, vae, textEncoders } = await openModel(bundledModelPath())
      const sources = [unet!, vae!, ...textEncoders].map(({ source }) => source)
      for (const source of sources) {
        source.precision = precision
        source.residency = lowMemory === undefined ? 'per-step' : lowMemory ? 'none' : 'all'
      }
      const [least, taken] = [leastWeightBytes(sources), pipe.memoryNeeded().weights]
      t.ok(least <= taken, `${precision}, ${lowMemory}: ${least} of ${taken} bytes`)
      if (lowMemory !== true)
        t.ok(least > taken / 4, `${precision}, ${lowMemory}: ${least} of ${taken} bytes`)
    }
  }
})

t.test('the limit', (t) => {
  requireMemoryForWeights(5, 'model', 10, 5)
  t.throws(() => requireMemoryForWeights(6, 'model', 10, 5), {
    code: 'OUT_OF_MEMORY',
    message: /at least 6 bytes/,
  })
  t.end()
})

t.test('limits of control groups', { skip: process.platform !== 'linux' }, (t) => {
  const limit = (files: Record<string, string>) => {
    const root = folder(t)
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(dirname(join(root, name)), { recursive: true })
      writeFileSync(join(root, name), text)
    }
    return cgroupLimit(root)
  }
  const v2 = 'sys/fs/cgroup'
  t.equal(limit({}), 0, 'no groups')
  t.equal(limit({ 'proc/self/cgroup': '0::/\n', [`${v2}/memory.max`]: 'max\n' }), 0, 'no limit')
  t.equal(limit({ 'proc/self/cgroup': '0::/a/b\n', [`${v2}/a/b/memory.max`]: '1000\n' }), 1000)
  t.equal(
    limit({
      'proc/self/cgroup': '0::/a/b\n',
      [`${v2}/a/b/memory.max`]: '1000\n',
      [`${v2}/a/memory.high`]: '500\n',
    }),
    500,
    'a group around it',
  )
  t.equal(
    limit({ 'proc/self/cgroup': '0::/of/the/host\n', [`${v2}/memory.max`]: '700\n' }),
    700,
    'a container',
  )
  const v1 = 'sys/fs/cgroup/memory'
  t.equal(
    limit({
      'proc/self/cgroup': '5:cpu:/x\n4:memory:/a/b\n0::/\n',
      [`${v1}/a/b/memory.limit_in_bytes`]: '9223372036854771712\n',
      [`${v1}/a/memory.limit_in_bytes`]: '300\n',
    }),
    300,
    'version 1',
  )
  t.end()
})
