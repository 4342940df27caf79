/** The profile of forward passes: what it counts, and that it does not change results. */
import { join } from 'node:path'
import t from 'tap'
import { native, type NativeUnet } from '../../lib/native.js'
import { compute, load } from './compute.js'
import { cases, fixtures } from './fixtures.js'

const sample = cases.find((c) => c.model === 'sd1' && c.kind === 'predict')!

t.test('a profiled forward pass gives the same result, and its time by kind of layer', async (t) => {
  const unet: NativeUnet = await load(join(fixtures, sample.model), 'unet')
  const plain = await compute(unet, sample)
  t.strictSame(native().profile(true), [], 'nothing was measured before')
  const profiled = await compute(unet, sample)
  const once = native().profile(true)
  await compute(unet, sample)
  await compute(unet, sample)
  const twice = native().profile(false)
  await compute(unet, sample)
  t.strictSame(native().profile(false), [], 'off again')
  await unet.dispose()

  t.strictSame(profiled, plain)
  const kinds = once.map((row) => row.kind)
  for (const kind of [
    'linear',
    'linear, GEGLU',
    'self-attention',
    'cross-attention',
    'group norm',
    'layer norm',
  ])
    t.ok(kinds.includes(kind), kind)
  t.ok(kinds.some((kind) => kind.includes('convolution')))
  for (const { kind, compute, seconds, operations } of once) {
    t.ok(seconds >= 0 && Number.isFinite(seconds), `${kind}: ${seconds} s`)
    t.equal(compute, 'f32')
    const again = twice.find((row) => row.kind === kind)
    t.equal(again?.operations, 2 * operations, `${kind}: operations of two forward passes`)
    const multiplies = /^(linear|self|cross|3×3|upsampling|convolution, direct)/.test(kind)
    t.equal(operations > 0, multiplies, `${kind}: ${operations} operations`)
  }
})

t.test('a flag of another type is refused', async (t) => {
  t.throws(() => native().profile(1 as never), { name: 'TypeError', message: /boolean/ })
})
