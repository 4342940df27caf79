/** Aborts, queueing, dispose(), worker threads and memory, as in a server. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import { heldBytes } from '../hostile/harness.js'
import { DiffusionPipeline } from '../../lib/index.js'
import { FairLock } from '../../lib/fair-lock.js'
import { largestDifference, quick } from './support.js'

const endless = { ...quick, steps: 1000 }

t.test('abort', async (t) => {
  const pipe = await DiffusionPipeline.load()
  t.teardown(() => pipe.dispose())
  const reason = new Error('enough')
  const before = AbortSignal.abort(reason)
  await t.rejects(pipe.generate({ ...quick, signal: before }), reason)
  await t.rejects(pipe.textEncoder.encode(pipe.tokenizer.encode('a'), { signal: before }), reason)
  await t.rejects(DiffusionPipeline.load(undefined, { signal: before }), reason)

  const controller = new AbortController()
  let steps = 0
  let atAbort = Infinity
  const running = pipe.generate({
    ...endless,
    width: 256,
    height: 256,
    signal: controller.signal,
    onStep({ step }) {
      steps = step
      if (step === 2) {
        setTimeout(() => {
          atAbort = steps
          controller.abort(reason)
        }, 5)
      }
    },
  })
  const waiting = new AbortController()
  const queued = pipe.generate({ ...quick, signal: waiting.signal })
  waiting.abort()
  await t.rejects(queued, { name: 'AbortError' }, 'a waiting run can be aborted')
  await t.rejects(running, reason)
  // The current step may have finished already. bench/ measures the time of an abort.
  t.ok(steps <= atAbort + 1, `step ${steps} after an abort at ${atAbort}`)
  t.equal((await pipe.generate(quick)).images.length, 1, 'the pipeline stays usable')

  await t.rejects(pipe.generate({ ...endless, signal: AbortSignal.timeout(50) }), { name: 'TimeoutError' })
  const stuck = new AbortController()
  const never = pipe.generate({ ...quick, signal: stuck.signal, onStep: () => new Promise(() => {}) })
  setTimeout(() => stuck.abort(reason), 20)
  await t.rejects(never, reason, 'an abort does not wait for a callback that never returns')
})

t.test('concurrent runs', async (t) => {
  const pipe = await DiffusionPipeline.load()
  t.teardown(() => pipe.dispose())
  const options = ['noto crab', 'flat rocket', 'noto banana'].map((prompt, i) => ({
    ...quick,
    prompt,
    seed: i,
    scheduler: 'ddpm' as const,
  }))
  const alone = []
  for (const one of options) alone.push(await pipe.generate(one))
  const order: number[] = []
  const together = await Promise.all(
    options.map(async (one, i) => {
      const result = await pipe.generate(one)
      order.push(i)
      return result
    }),
  )
  t.same(order, [0, 1, 2], 'first come, first served')
  for (const i of options.keys()) {
    t.equal(
      largestDifference(together[i].images[0].data, alone[i].images[0].data),
      0,
      `image ${i} is the same as by itself`,
    )
  }
  const failing = pipe.generate({ ...quick, onStep: () => Promise.reject(new Error('mine')) })
  const next = pipe.generate(quick)
  await t.rejects(failing, { message: 'mine' })
  t.equal((await next).images.length, 1, 'a failure does not block other runs')
})

t.test('dispose', async (t) => {
  const pipe = await DiffusionPipeline.load()
  let started!: () => void
  const running = new Promise<void>((resolve) => (started = resolve))
  const first = pipe.generate({ ...endless, onStep: () => started() })
  const second = pipe.generate(quick)
  const component = pipe.unet
  const gone = [t.rejects(first, { code: 'DISPOSED' }), t.rejects(second, { code: 'DISPOSED' })]
  await running
  await Promise.all([pipe.dispose(), pipe.dispose()])
  await Promise.all(gone)
  t.ok(pipe.disposed)
  await t.rejects(pipe.generate(quick), { code: 'DISPOSED' })
  t.throws(() => pipe.memoryNeeded(), { code: 'DISPOSED' })
  await t.rejects(pipe.textEncoder.encode(pipe.tokenizer.encode('a')), { code: 'DISPOSED' })
  const latents = { data: new Float32Array(4 * 16 * 16), shape: [1, 4, 16, 16] }
  const context = { data: new Float32Array(24 * 128), shape: [1, 24, 128] }
  await t.rejects(component.predict({ latents, timestep: 1, context }), { code: 'DISPOSED' })
  await t.rejects(pipe.vae.decode(latents), { code: 'DISPOSED' })
  await t.rejects(pipe.steps(quick).next(), { code: 'DISPOSED' })

  let scoped: DiffusionPipeline
  {
    await using pipe = await DiffusionPipeline.load()
    scoped = pipe
    await pipe.generate(quick)
  }
  t.ok(scoped.disposed, 'await using')

  const other = await DiffusionPipeline.load()
  const large = { data: new Float32Array(4 * 128 * 128), shape: [1, 4, 128, 128] }
  // Nothing handles these promises before dispose() has resolved: an earlier rejection would end the process.
  const decodings = [other.vae.decode(large), other.vae.decode(large)]
  await other.vae.dispose()
  for (const call of decodings) await t.rejects(call, { code: 'DISPOSED' })
  const runs = [other.generate(endless), other.generate(quick), other.steps(endless).next()]
  await other.dispose()
  for (const call of runs as Promise<unknown>[]) await t.rejects(call, { code: 'DISPOSED' })
})

t.test('components check their arguments', async (t) => {
  await using pipe = await DiffusionPipeline.load()
  const latents = { data: new Float32Array(4 * 16 * 16), shape: [1, 4, 16, 16] }
  const context = { data: new Float32Array(24 * 128), shape: [1, 24, 128] }
  t.same((await pipe.unet.predict({ latents, timestep: 1, context })).shape, [1, 4, 16, 16])
  t.equal(await pipe.unet.prepare([1, 2, 2, 999]), undefined)
  t.equal(await pipe.unet.prepare(new Float64Array(1000)), undefined, 'more timesteps than are kept')
  t.equal(await pipe.unet.prepare([]), undefined)
  for (const timesteps of [null, 5, '12', undefined]) {
    await t.rejects(pipe.unet.prepare(timesteps as never), {
      name: 'TypeError',
      message: /array of at most 10000 numbers for timesteps/,
    })
  }
  await t.rejects(pipe.unet.prepare([1, NaN]), {
    name: 'RangeError',
    message: /finite number for timesteps\[1\]/,
  })
  await t.rejects(pipe.unet.prepare([1], { signal: AbortSignal.abort() }), { name: 'AbortError' })
  await t.rejects(pipe.unet.predict({ latents: context, timestep: 1, context }), {
    name: 'RangeError',
    message: /latents/,
  })
  await t.rejects(pipe.unet.predict({ latents, timestep: NaN, context }), {
    name: 'RangeError',
    message: /timestep/,
  })
  await t.rejects(pipe.unet.predict({ latents, timestep: [1, 2], context }), {
    name: 'RangeError',
    message: /timestep/,
  })
  await t.rejects(pipe.unet.predict({ latents, timestep: 1, context: latents }), {
    name: 'RangeError',
    message: /context/,
  })
  await t.rejects(pipe.unet.predict({ latents, timestep: 1, context, time: 1 } as never), {
    message: /Unknown option/,
  })
  await t.rejects(pipe.textEncoder.encode(new Int32Array(23)), { name: 'RangeError' })
  await t.rejects(pipe.textEncoder.encode(new Int32Array(24).fill(99999)), { name: 'RangeError' })
  await t.rejects(pipe.textEncoder.encode([1] as never), { name: 'TypeError' })
  await t.rejects(pipe.vae.encode({ data: new Float32Array(3 * 63 * 64), shape: [1, 3, 63, 64] }), {
    name: 'RangeError',
  })
  const { mean, logvar } = await pipe.vae.encode({
    data: new Float32Array(2 * 3 * 64 * 64),
    shape: [2, 3, 64, 64],
  })
  t.same([mean.shape, logvar.shape], [[2, 4, 16, 16], [2, 4, 16, 16]]) // prettier-ignore
})

t.test('the event loop stays free', async (t) => {
  await using pipe = await DiffusionPipeline.load()
  await pipe.generate(quick)
  const latents = { data: new Float32Array(4 * 64 * 64), shape: [1, 4, 64, 64] }
  const context = { data: new Float32Array(24 * 128), shape: [1, 24, 128] }
  // If this thread worked or waited, the loop would turn at most once.
  for (const [name, call] of [
    ['a UNet call', () => pipe.unet.predict({ latents, timestep: 1, context })],
    ['decoding', () => pipe.vae.decode(latents)],
  ] as const) {
    let turns = 0
    let working = true
    const turn = () => {
      turns++
      if (working) setImmediate(turn)
    }
    turn()
    await call()
    working = false
    t.ok(turns > 10, `${turns} turns during ${name}`)
  }
})

t.test('worker threads', async (t) => {
  const source = `
    import { parentPort } from 'node:worker_threads'
    import { DiffusionPipeline } from ${JSON.stringify(new URL('../../lib/index.js', import.meta.url).href)}
    const pipe = await DiffusionPipeline.load()
    const { images } = await pipe.generate(${JSON.stringify(quick)})
    await pipe.dispose()
    parentPort.postMessage(images[0].data)`
  const draw = () =>
    new Promise<Uint8Array>((resolve, reject) => {
      const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`))
      let image: Uint8Array
      worker.on('message', (data: Uint8Array) => (image = data))
      worker.on('error', reject)
      worker.on('exit', () => resolve(image))
    })
  await using pipe = await DiffusionPipeline.load()
  const [here, a, b] = await Promise.all([pipe.generate(quick), draw(), draw()])
  t.equal(largestDifference(a, here.images[0].data), 0)
  t.equal(largestDifference(b, here.images[0].data), 0)

  const ended = new Worker(
    new URL(
      `data:text/javascript,${encodeURIComponent(source.replace('const { images } = await', 'setTimeout(() => process.exit(0), 30); const { images } = await').replace('"steps":2', '"steps":1000'))}`,
    ),
  )
  t.equal(
    await new Promise((resolve) => ended.on('exit', resolve)),
    0,
    'a worker can be terminated during a run',
  )
})

t.test('memory does not grow', async (t) => {
  // heldBytes() collects garbage, for which Node has to be told to.
  setFlagsFromString('--expose-gc')
  globalThis.gc ??= runInNewContext('gc') as NodeJS.GCFunction
  await using pipe = await DiffusionPipeline.load()
  const options = { ...quick, steps: 1, width: 32, height: 32 }
  /** The least memory that remains after a round: what is kept in between varies, what leaks adds up. */
  const rounds = async (count: number, work: (i: number) => Promise<unknown>): Promise<number> => {
    let least = Infinity
    for (let i = 0; i < count; i++) {
      await work(i)
      if (i >= count - 5) least = Math.min(least, await heldBytes())
    }
    return least
  }
  const run = async (i: number) => {
    const controller = new AbortController()
    const running = pipe.generate({ ...options, signal: controller.signal })
    if (i % 3 === 0) controller.abort()
    await running.catch(() => {})
  }
  /** By how much memory grows in a block of rounds. Something may grow once; a leak grows in every block. */
  const growth = async (count: number, work: (i: number) => Promise<unknown>): Promise<number> => {
    let least = Infinity
    let before = await rounds(count, work)
    for (let block = 0; block < 3 && least >= 6e6; block++) {
      const after = await rounds(count, work)
      least = Math.min(least, after - before)
      before = after
    }
    return least
  }
  const grown = await growth(150, run)
  // 0.05 MB for each run would be 7.5 MB.
  t.ok(grown < 6e6, `${(grown / 1e6).toFixed(1)} MB more after 150 runs`)

  const load = async () => (await DiffusionPipeline.load()).dispose()
  const kept = await growth(16, load)
  // A model has 20 MB; half a megabyte of each would be 8 MB.
  t.ok(kept < 6e6, `${(kept / 1e6).toFixed(1)} MB more after 16 models`)
})

t.test('FairLock', async (t) => {
  const lock = new FairLock()
  const order: number[] = []
  const release = await lock.acquire()
  const [b, c, d] = [1, 2, 3].map((i) => lock.acquire().then((release) => (order.push(i), release)))
  const controller = new AbortController()
  const leaving = lock.acquire(controller.signal)
  t.equal(lock.waiting, 4)
  controller.abort()
  await t.rejects(leaving, { name: 'AbortError' })
  t.equal(lock.waiting, 3)
  release()
  release()
  const releaseB = await b
  t.same(order, [1], 'releasing twice lets one caller in')
  releaseB()
  const releaseC = await c
  const refused = t.rejects(d, { message: 'closed' })
  const closed = lock.close(new Error('closed'))
  await refused
  await t.rejects(lock.acquire(), { message: 'closed' })
  releaseC()
  await closed
})
