/** Models without weights: what they tell is what the real ones take, and they refuse to compute. */
import t from 'tap'
import { bundledModelPath } from '../../lib/index.js'
import { native, type ModelSource, type Precision, type ProfileRow } from '../../lib/native.js'
import { openModel } from '../../lib/models/index.js'

const operations = (rows: readonly ProfileRow[]) =>
  new Map(
    rows
      .filter((row) => row.operations > 0)
      .map((row): [string, number] => [`${row.kind} ${row.compute}`, row.operations])
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  )
const bytesOf = (rows: readonly ProfileRow[], kind: string) => rows.find((row) => row.kind === kind)?.bytes

/** What `work` computes. */
async function done(work: () => Promise<unknown>): Promise<ProfileRow[]> {
  native().profile(true)
  await work().catch((error: unknown) => {
    native().profile(false)
    throw error
  })
  return native().profile(false)
}

t.test('the work and memory of a planned model are those of the real one', async (t) => {
  for (const precision of ['f32', 'bf16', 'int8'] satisfies Precision[]) {
    for (const residency of ['all', 'none'] as const) {
      const what = `${precision}, ${residency}`
      const { unet, vae, textEncoders } = await openModel(bundledModelPath())
      const as = (source: ModelSource, plan: boolean) => ({ ...source, precision, residency, plan })

      const [h, w] = [12, 9]
      const { inChannels, contextWidth } = unet!.config
      const planned = await native().loadUnet(unet!.config, as(unet!.source, true))
      const real = await native().loadUnet(unet!.config, as(unet!.source, false))
      t.equal(planned.weightBytes, real.weightBytes, what)
      t.equal(planned.threadBytes, real.threadBytes, what)
      const sizes = { n: 1, h, w, conditioning: { contextLength: 77 }, options: { tokenMerging: 0 } }
      t.equal(planned.workingBytes(sizes), real.workingBytes(sizes), what)
      const call = {
        latents: new Float32Array(inChannels * h * w),
        ...{ n: 1, h, w },
        conditioning: {
          timesteps: Float32Array.of(10),
          context: new Float32Array(77 * contextWidth),
          contextLength: 77,
        },
      }
      // What depends on the timestep and the context alone is cached by the first of them.
      await real.predict(call)
      const predicted = await done(() => real.predict(call))
      const counted = native().countWork(() => void planned.workingBytes(sizes))
      t.same(operations(counted), operations(predicted), `UNet, ${what}`)
      t.equal(bytesOf(counted, 'streamed weights'), bytesOf(predicted, 'streamed weights'), what)
      await t.rejects(planned.predict(call), { message: /planned model has no weights/ })
      await planned.dispose()
      await real.dispose()

      const plannedVae = await native().loadVae(vae!.config, as(vae!.source, true))
      const realVae = await native().loadVae(vae!.config, as(vae!.source, false))
      t.equal(plannedVae.weightBytes, realVae.weightBytes, what)
      const latents = new Float32Array(vae!.config.latentChannels * h * w)
      const decoded = await done(() => realVae.decode(latents, 1, h, w, null))
      const countedVae = native().countWork(() => void plannedVae.decodeBytes(1, h, w, null))
      t.same(operations(countedVae), operations(decoded), `autoencoder, ${what}`)
      await t.rejects(plannedVae.decode(latents, 1, h, w, null), { message: /planned model/ })
      await plannedVae.dispose()
      await realVae.dispose()

      const [{ config, source }] = textEncoders
      const plannedText = await native().loadTextEncoder(config, as(source, true))
      const realText = await native().loadTextEncoder(config, as(source, false))
      t.equal(plannedText.weightBytes, realText.weightBytes, what)
      const length = config.maxPositions
      const text = { tokens: new Int32Array(2 * length), n: 2, length, skip: 0 }
      const encoded = await done(() => realText.encode(text))
      const countedText = native().countWork(() => void plannedText.workingBytes({ n: 2, length }))
      t.same(operations(countedText), operations(encoded), `text encoder, ${what}`)
      await plannedText.dispose()
      await realText.dispose()
    }
  }
})

t.test('large linear layers are counted whole, though only a piece of them is measured', async (t) => {
  const { unet } = await openModel(bundledModelPath())
  const planned = await native().loadUnet(unet!.config, { ...unet!.source, plan: true })
  const feedForward = (side: number) => {
    const sizes = {
      n: 1,
      h: side,
      w: side,
      conditioning: { contextLength: 77 },
      options: { tokenMerging: 0 },
    }
    const rows = native().countWork(() => void planned.workingBytes(sizes))
    return rows.find(({ kind }) => kind === 'linear, GEGLU')!.operations
  }
  t.equal(feedForward(512), 64 * feedForward(64))
  await planned.dispose()
})

t.test('countWork() of something else', async (t) => {
  t.throws(() => native().countWork(7 as never), { name: 'TypeError', message: /function for measure/ })
  t.throws(
    () =>
      native().countWork(() => {
        throw new RangeError('thrown inside')
      }),
    { message: 'thrown inside' },
  )
  t.same(operations(native().countWork(() => {})).size, 0)
})
