/** How the addon's UNet reads the fields of a call: errors have their path, and arrays are copied. */
import { join } from 'node:path'
import t from 'tap'
import type { NativeUnet, UnetCall } from '../../lib/native.js'
import { native } from '../../lib/native.js'
import { difference, load } from './compute.js'
import { fixtures } from './fixtures.js'

const path = join(fixtures, 'sd1', 'unet')

function sample(): UnetCall {
  const wave = (length: number) => Float32Array.from({ length }, (_, i) => Math.sin(i))
  const conditioning = { timesteps: Float32Array.of(500), context: wave(3 * 20), contextLength: 3 }
  return { latents: wave(4 * 8 * 8), n: 1, h: 8, w: 8, conditioning, options: {} }
}

t.test('fields that are missing or wrong', async (t) => {
  const unet: NativeUnet = await load(path, 'unet')
  t.teardown(() => unet.dispose())
  const bad: [object, { name: string; message: RegExp }][] = [
    [{ latents: [0] }, { name: 'TypeError', message: /Float32Array for call\.latents but received object/ }],
    [
      { latents: new Float32Array(3) },
      { name: 'RangeError', message: /256 elements in call\.latents but received 3/ },
    ],
    [{ n: 0 }, { name: 'RangeError', message: /call\.n but received 0/ }],
    [{ h: 1.5 }, { name: 'RangeError', message: /call\.h but received 1\.5/ }],
    [{ w: '8' }, { name: 'TypeError', message: /integer for call\.w but received string/ }],
    [
      { conditioning: undefined },
      { name: 'TypeError', message: /object for call\.conditioning but received undefined/ },
    ],
    [{ options: 5 }, { name: 'TypeError', message: /object for call\.options/ }],
  ]
  for (const [change, error] of bad) {
    const call = { ...sample(), ...change }
    t.throws(() => unet.predict(call), error, `predict, ${Object.keys(change).join()}`)
    if (!('latents' in change))
      t.throws(() => unet.workingBytes(call), error, `workingBytes, ${Object.keys(change).join()}`)
  }
  const badConditioning: [object, { name: string; message: RegExp }][] = [
    [
      { timesteps: new Float32Array(2) },
      { name: 'RangeError', message: /1 elements in call\.conditioning\.timesteps but received 2/ },
    ],
    [{ context: undefined }, { name: 'TypeError', message: /Float32Array for call\.conditioning\.context/ }],
    [
      { context: new Float32Array(5) },
      { name: 'RangeError', message: /60 elements in call\.conditioning\.context/ },
    ],
    [
      { contextLength: 0 },
      { name: 'RangeError', message: /call\.conditioning\.contextLength but received 0/ },
    ],
  ]
  for (const [change, error] of badConditioning) {
    const call = sample()
    t.throws(() => unet.predict({ ...call, conditioning: { ...call.conditioning, ...change } }), error)
  }
  t.throws(() => unet.predict(undefined as never), { name: 'TypeError', message: /object for call/ })
  t.throws(() => unet.prepare({ conditioning: { timesteps: new Float32Array(2) }, n: 3 }), {
    name: 'RangeError',
    message: /call\.conditioning\.timesteps/,
  })
  t.throws(() => unet.prepare(new Float32Array(2) as never), { name: 'TypeError', message: /call\.n/ })
  t.equal(unet.maxDepth, 11)
})

t.test('a field whose getter disposes the model', async (t) => {
  const whole: NativeUnet = await load(path, 'unet')
  const bytes = whole.workingBytes(sample())
  const expected = await whole.predict(sample())
  await whole.dispose()
  for (const key of ['n', 'conditioning', 'options'] as const) {
    const call = sample()
    const disposing = (unet: NativeUnet): UnetCall =>
      Object.defineProperty({ ...call }, key, {
        get() {
          void unet.dispose()
          return call[key]
        },
      })
    const first: NativeUnet = await load(path, 'unet')
    t.equal(first.workingBytes(disposing(first)), bytes, `workingBytes: ${key}`)
    t.throws(() => first.workingBytes(sample()), { code: 'DISPOSED' })
    const second: NativeUnet = await load(path, 'unet')
    t.equal(difference(await second.predict(disposing(second)), expected).error, 0, `predict: ${key}`)
    t.throws(() => second.predict(sample()), { code: 'DISPOSED' })
  }
  t.throws(() => whole.maxDepth, { code: 'DISPOSED' })
})

t.test('arrays that change after a call has returned', async (t) => {
  const unet: NativeUnet = await load(path, 'unet')
  t.teardown(() => unet.dispose())
  const expected = await unet.predict(sample())
  const call = sample()
  const running = unet.predict(call)
  call.latents.fill(0)
  call.conditioning.context.fill(0)
  call.conditioning.timesteps.fill(0)
  t.equal(difference(await running, expected).error, 0)
})

t.test('members of an object of another class', async (t) => {
  const unet: NativeUnet = await load(path, 'unet')
  t.teardown(() => unet.dispose())
  const addon = native()
  const token = new addon.CancelToken()
  const { predict, trim } = unet
  // V8 refuses most of these by itself; other engines do not.
  for (const member of [predict, trim])
    t.throws(() => (member as () => unknown).call(token as never), { name: 'TypeError' }, member.name)
  for (const other of [{}, Object.create(unet), undefined, addon])
    t.throws(() => predict.call(other as never, sample()), { name: 'TypeError' }, String(other))
  const { cancel } = token
  for (const other of [{}, Object.create(token), unet])
    t.throws(() => cancel.call(other as never), { name: 'TypeError' })
  const { constructor } = unet as unknown as { constructor: new (...args: unknown[]) => object }
  for (const args of [[], [{}], [unet]])
    t.throws(() => new constructor(...args), {
      name: 'TypeError',
      message: 'NativeUnet cannot be constructed',
    })
  t.throws(() => unet.predict(sample(), unet as never), {
    name: 'TypeError',
    message: /CancelToken for cancel/,
  })
})
