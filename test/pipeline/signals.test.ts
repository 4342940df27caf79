/** Abort signals that are shared by many calls, or come from libraries without `reason` and `throwIfAborted`. */
import t from 'tap'
import { abortReason, joinSignals, onAbort, raceAbort } from '../../lib/abort.js'
import {
  AutoencoderKL,
  AutoencoderTiny,
  bundledModelPath,
  DiffusionPipeline,
  Image,
  quantizeModel,
  VqModel,
} from '../../lib/index.js'
import { quick } from './support.js'

/** A signal without `reason` and `throwIfAborted`. */
function plainSignal(aborted = false): AbortSignal & { abort(): void; listeners: number } {
  const target = new EventTarget()
  const signal = {
    aborted,
    listeners: 0,
    addEventListener(type: string, listener: () => void) {
      signal.listeners++
      target.addEventListener(type, listener)
    },
    removeEventListener(type: string, listener: () => void) {
      signal.listeners--
      target.removeEventListener(type, listener)
    },
    abort() {
      signal.aborted = true
      target.dispatchEvent(new Event('abort'))
    },
  }
  return signal as never
}

t.test('a signal without throwIfAborted and reason', async (t) => {
  const path = t.testdir({})
  for (const [name, call] of Object.entries({
    'DiffusionPipeline.load': (signal: AbortSignal) => DiffusionPipeline.load(undefined, { signal }),
    'AutoencoderKL.load': (signal: AbortSignal) => AutoencoderKL.load(bundledModelPath(), { signal }),
    'AutoencoderTiny.load': (signal: AbortSignal) => AutoencoderTiny.load(bundledModelPath(), { signal }),
    'VqModel.load': (signal: AbortSignal) => VqModel.load(undefined, { signal }),
    quantizeModel: (signal: AbortSignal) =>
      quantizeModel(bundledModelPath(), `${path}/out.gguf`, { type: 'q8_0', signal }),
    toFile: (signal: AbortSignal) => new Image(1, 1, new Uint8Array(3)).toFile(`${path}/out.png`, { signal }),
  }))
    await t.rejects(
      call(plainSignal(true)) as Promise<unknown> as Promise<void>,
      { name: 'AbortError' },
      name,
    )

  const signal = plainSignal()
  await using vq = await VqModel.load(undefined, { signal })
  await using pipe = await DiffusionPipeline.load(undefined, { signal })
  t.equal((await pipe.generate({ ...quick, signal })).images.length, 1)
  t.equal(signal.listeners, 0, 'no listener is left')
  const running = pipe.generate({ ...quick, steps: 1000, signal, onStep: () => signal.abort() })
  await t.rejects(running, { name: 'AbortError' })
  await t.rejects(vq.encode({ data: new Float32Array(3 * 64 * 64), shape: [1, 3, 64, 64] }, { signal }), {
    name: 'AbortError',
  })
})

t.test('many concurrent calls share a signal without a warning', async (t) => {
  const warnings: string[] = []
  const listen = (warning: Error) => void warnings.push(warning.name)
  process.on('warning', listen)
  t.teardown(() => process.off('warning', listen))
  await using pipe = await DiffusionPipeline.load()
  const { signal } = new AbortController()
  const options = { ...quick, steps: 1, guidanceScale: 1, width: 32, height: 32 }
  await Promise.all(Array.from({ length: 15 }, () => pipe.generate({ ...options, signal })))
  await Promise.all(Array.from({ length: 15 }, () => pipe.generate(options)))
  const tokens = pipe.tokenizer.encode('a')
  await Promise.all(Array.from({ length: 15 }, () => pipe.textEncoder.encode(tokens, { signal })))
  const controller = new AbortController()
  const waiting = Array.from({ length: 15 }, () => pipe.generate({ ...options, signal: controller.signal }))
  controller.abort(new Error('enough'))
  for (const { status } of await Promise.allSettled(waiting)) t.equal(status, 'rejected')
  await new Promise((resolve) => setTimeout(resolve, 10))
  t.same(warnings, [])
})

t.test('onAbort(), joinSignals() and raceAbort()', async (t) => {
  const signal = plainSignal()
  const calls: number[] = []
  const ends = [1, 2, 3].map((i) => onAbort(signal, () => calls.push(i)))
  t.equal(signal.listeners, 1, 'one listener for all callbacks')
  ends[1]()
  ends[1]()
  signal.abort()
  t.same(calls, [1, 3])
  ends.forEach((end) => end())
  t.match(abortReason(signal), { name: 'AbortError' })
  onAbort(undefined, () => t.fail())()

  const controller = new AbortController()
  const joined = joinSignals(signal, controller.signal)
  t.equal(joined.signal.aborted, true)
  const other = joinSignals(undefined, controller.signal)
  controller.abort('why')
  t.equal(other.signal.reason, 'why')
  const late = raceAbort(controller.signal, Promise.reject(new Error('late')))
  t.equal(await late.catch((error: unknown) => error), 'why', 'the abort takes precedence')
  t.equal(await raceAbort(undefined, 5), 5)
})
