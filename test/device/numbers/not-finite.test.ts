/** A broken model is reported on a GPU as it is on the CPU. */
import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { bundledModelPath, DiffusionPipeline } from '../../../lib/index.js'
import { quick } from '../../pipeline/support.js'
import { emulatedEnvironment, emulatorBuilt, emulatorExpected } from '../emulated.js'

const skip = !emulatorBuilt && !emulatorExpected
if (!skip) Object.assign(process.env, emulatedEnvironment())

/** Makes the first element of a tensor NaN, in half or single precision. */
function spoil(file: string, tensor: string): void {
  const bytes = readFileSync(file)
  const length = Number(bytes.readBigUInt64LE(0))
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + length)) as Record<
    string,
    { dtype: string; data_offsets: [number, number] }
  >
  const { dtype, data_offsets } = header[tensor]
  const at = 8 + length + data_offsets[0]
  if (dtype === 'F16') bytes.writeUInt16LE(0x7e00, at)
  else bytes.writeFloatLE(NaN, at)
  writeFileSync(file, bytes)
}

t.test('weights that are NaN', { skip }, async (t) => {
  const parts = [
    ['unet', 'mid_block.resnets.0.conv1.weight', 'The UNet gave'],
    ['vae', 'decoder.conv_in.weight', "The autoencoder's decoder gave"],
  ]
  for (const [part, tensor, culprit] of parts) {
    const model = join(t.testdir(), part)
    cpSync(bundledModelPath(), model, { recursive: true })
    spoil(join(model, part, 'diffusion_pytorch_model.safetensors'), tensor)
    for (const device of ['cpu', 'cuda'] as const) {
      await using pipe = await DiffusionPipeline.load(model, { device })
      const { warnings } = await pipe.generate({ ...quick, steps: 1 })
      const found = warnings.filter((text) => text.includes('not finite'))
      t.same(
        found.map((text) => text.split(' numbers')[0]),
        [culprit],
        `${part} on ${pipe.device}`,
      )
    }
  }
})
