/** Damaged files of adapters end in errors of ours, whatever the damage. */
import { readdirSync, readFileSync } from 'node:fs'
import { extname, join } from 'node:path'
import t from 'tap'
import { applyLora, openIpAdapters, readEmbeddings } from '../../lib/adapters/index.js'
import { bundledModelPath, ControlNet, openModel, T2iAdapter } from '../../lib/index.js'
import { openControlLllite } from '../../lib/models/control-lllite.js'
import { openControlLora } from '../../lib/models/control-lora.js'
import { packageRoot } from '../../lib/package-root.js'
import { ControlLllite } from '../../lib/pipeline/control-lllite.js'
import { IpAdapter } from '../../lib/pipeline/ip-adapter.js'
import { Unet } from '../../lib/pipeline/unet.js'
import { freshPath, fuzz } from '../model-files/helpers.js'
import { fixtures as models } from '../models/fixtures.js'

const fixtures = join(packageRoot(), 'test', 'fixtures')

function filesIn(folder: string): string[] {
  const names = readdirSync(join(fixtures, folder)).filter((name) => /\.(safetensors|pt|bin)$/.test(name))
  return names.filter((name) => !name.startsWith('golden')).map((name) => join(fixtures, folder, name))
}

t.test('LoRA files', async (t) => {
  for (const file of filesIn('adapters')) {
    const bytes = readFileSync(file)
    // Most of a large file are numbers, of which every value is valid.
    const header = bytes.subarray(0, 8 + Number(bytes.readBigUInt64LE()))
    const rest = bytes.length - header.length
    await fuzz(t, header, rest, 25, freshPath(t, '.safetensors'), async (path) => {
      const model = await openModel(join(models, 'sd1'))
      await applyLora(model, { path, scale: 1 })
      const unet = await Unet.load(model.unet!, { device: 'cpu' })
      await unet.dispose()
    })
  }
})

t.test('embeddings', async (t) => {
  const model = await openModel(bundledModelPath())
  for (const file of filesIn('embeddings'))
    await fuzz(t, readFileSync(file), 0, 100, freshPath(t, extname(file)), (path) =>
      readEmbeddings(model, [{ path }]),
    )
})

t.test('ControlNets and T2I-Adapters', async (t) => {
  const files = [
    ['control/sd1-original.safetensors', ControlNet],
    ['control/sd1-a/diffusion_pytorch_model.safetensors', ControlNet],
    ['control-union/net/diffusion_pytorch_model.safetensors', ControlNet],
    ['t2i/sd1-full-original.safetensors', T2iAdapter],
    ['t2i/derived-light.safetensors', T2iAdapter],
    ['t2i/derived-xl.safetensors', T2iAdapter],
  ] as const
  for (const [name, kind] of files) {
    const bytes = readFileSync(join(fixtures, name))
    const header = bytes.subarray(0, 8 + Number(bytes.readBigUInt64LE()))
    await fuzz(t, header, bytes.length - header.length, 100, freshPath(t, '.safetensors'), async (path) => {
      const net = await kind.load(path, { device: 'cpu' })
      await net.dispose()
    })
  }
})

t.test('control-LoRAs and ControlLLLites', async (t) => {
  for (const file of [...filesIn('control-lora'), ...filesIn('control-lllite')]) {
    const bytes = readFileSync(file)
    const header = bytes.subarray(0, 8 + Number(bytes.readBigUInt64LE()))
    const folder = file.endsWith('sd1.safetensors') ? ['control', 'sd1'] : ['sdxl', 'base']
    await fuzz(t, header, bytes.length - header.length, 50, freshPath(t, '.safetensors'), async (path) => {
      const { unet, ...model } = await openModel(join(fixtures, ...folder))
      if (file.includes('control-lllite')) {
        const lllite = await openControlLllite(path, { ...model, unet: unet! })
        if (lllite) await (await ControlLllite.from(lllite, { device: 'cpu' })).dispose()
        return
      }
      const made = await openControlLora(path, { unet: unet! })
      if (made) await (await ControlNet.from(made, { device: 'cpu' })).dispose()
    })
  }
})

t.test('IP-Adapters', async (t) => {
  for (const file of filesIn('ip-adapter').filter((name) => name.includes('sd1-'))) {
    const bytes = readFileSync(file)
    const header = file.endsWith('.bin') ? bytes.length : 8 + Number(bytes.readBigUInt64LE())
    const rest = bytes.length - header
    await fuzz(t, bytes.subarray(0, header), rest, 25, freshPath(t, extname(file)), async (path) => {
      const { unet, ...model } = await openModel(join(fixtures, 'control', 'sd1'))
      const { ipAdapters } = await openIpAdapters({ ...model, unet: unet! }, [{ path }])
      for (const one of ipAdapters) {
        const adapter = await IpAdapter.from(one, undefined, { device: 'cpu' })
        await adapter.dispose()
      }
    })
  }
})
