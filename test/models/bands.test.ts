/** Decoding and encoding in bands compared with the whole image at once. test/cpp/bands_test.cpp tests every plan. */
import { join } from 'node:path'
import t from 'tap'
import { native, type NativeVae } from '../../lib/native.js'
import { compute, difference, load } from './compute.js'
import { cases, fixtures, floats } from './fixtures.js'

const FACTOR = 4

t.test('vae in bands', async (t) => {
  const model = (await load(join(fixtures, 'vae-tiled', 'vae'), 'vae')) as NativeVae
  t.teardown(() => model.dispose())
  const decode = cases.find((c) => c.model === 'vae-tiled' && c.kind === 'decode')!
  const encode = cases.find((c) => c.model === 'vae-tiled' && c.kind === 'encode')!
  const { data, shape } = floats(decode, 'latents')
  const [, , h, w] = shape

  t.test('the same image up to the rounding to half precision', async (t) => {
    for (const of of [decode, encode]) {
      const whole = await compute(model, of)
      const banded = await compute(model, of, 0)
      const { error, scale } = difference(banded, whole)
      t.ok(error > 0, `${of.kind} is computed in another way`)
      t.ok(error <= 5e-3 * scale, `${of.kind}: ${error} ≤ ${5e-3 * scale}`)
    }
  })

  t.test('memory is at most what is allowed, or the minimum', async (t) => {
    for (const bytes of [
      (most: number | null) => model.decodeBytes(1, h, w, most),
      (most: number | null) => model.encodeBytes(1, h * FACTOR, w * FACTOR, most),
    ]) {
      const [least, whole] = [bytes(0), bytes(null)]
      t.ok(least < whole, `${least} < ${whole}`)
      t.equal(bytes(least), least)
      t.equal(bytes(whole), whole)
      for (let most = whole; most > least; most = Math.floor(most * 0.8))
        t.ok(bytes(Math.max(most, least)) <= Math.max(most, least))
    }
    t.equal(model.decodeBytes(3, h, w, 0), model.decodeBytes(1, h, w, 0), 'does not depend on the batch')
    t.throws(() => model.decodeBytes(1, h, w, -1), { message: /bytes/ })
    t.throws(() => model.decodeBytes(1, h, w, '5' as never), { name: 'TypeError', message: /bytes/ })
  })

  t.test('each image of a batch is as by itself, with any number of threads', async (t) => {
    const twice = new Float32Array(2 * data.length)
    twice.set(data)
    twice.set(data, data.length)
    native().setThreads(3)
    const both = await model.decode(twice, 2, h, w, 0)
    native().setThreads(1)
    const alone = (await compute(model, decode, 0)) as Float32Array
    t.equal(difference(both.subarray(0, alone.length), alone).error, 0)
    t.equal(difference(both.subarray(alone.length), alone).error, 0)
  })
})
