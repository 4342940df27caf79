/** What must not keep the event loop, a worker's end or the process's end waiting, however large the model is. */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import { cpuInfo } from '../../lib/index.js'
import { native } from '../../lib/native.js'
import { config, longCall, writeLargeUnet } from './large-model.js'

const folder = mkdtempSync(join(tmpdir(), 'node-diffusion-large-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))
const source = writeLargeUnet(join(folder, 'unet.bin'))
writeFileSync(join(folder, 'source.json'), JSON.stringify(source))

/**
 * Milliseconds of the fastest attempt; further ones are made while it takes longer than `bound`. Other programs can delay
 * an attempt: what we cause ourselves shows in each.
 */
async function fastest(bound: number, measure: () => Promise<number>): Promise<number> {
  let best = Infinity
  for (let i = 0; i < 8 && (i < 2 || best > bound); i++) best = Math.min(best, await measure())
  return best
}

const addon = JSON.stringify(new URL('../../lib/native.js', import.meta.url).href)
const large = JSON.stringify(new URL('./large-model.js', import.meta.url).href)
/** A module that starts a forward and then calls `then`. */
const program = (then: string) => `
  import { readFileSync } from 'node:fs'
  import { parentPort } from 'node:worker_threads'
  import { native } from ${addon}
  import { config, longCall } from ${large}
  const source = JSON.parse(readFileSync(${JSON.stringify(join(folder, 'source.json'))}, 'utf8'))
  const unet = await native().loadUnet(config, source)
  unet.predict(longCall()).then(() => console.log('the forward ended'), () => {})
  setTimeout(() => { ${then} }, 300)`

/** Milliseconds that worker.terminate() takes after the worker's first message. */
async function timeOfTermination(source: string): Promise<number> {
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`))
  await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
  const began = performance.now()
  await worker.terminate()
  return performance.now() - began
}

t.test('worker.terminate() during a forward', async (t) => {
  const idle = await fastest(0, () =>
    timeOfTermination(
      "import { parentPort } from 'node:worker_threads'; parentPort.on('message', () => {}).postMessage('')",
    ),
  )
  const time = await fastest(idle + 200, () =>
    timeOfTermination(program("parentPort.postMessage('running')")),
  )
  t.ok(
    time <= idle + 200,
    `${time.toFixed(0)} ms, ${idle.toFixed(0)} ms of them for a worker that does nothing`,
  )
})

t.test('process.exit() during a forward', async (t) => {
  const time = await fastest(200, async () => {
    const code = program('console.log(Date.now()); process.exit(7)')
    const child = spawn(process.execPath, ['--input-type=module', '-e', code], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let printed = ''
    child.stdout.on('data', (chunk: Buffer) => (printed += chunk.toString()))
    const status = await new Promise((resolve) => child.on('exit', (code, signal) => resolve(code ?? signal)))
    const ended = Date.now()
    t.equal(status, 7)
    t.match(printed, /^\d+\n$/, 'the forward was still running')
    return ended - Number(printed)
  })
  t.ok(time <= 200, `${time.toFixed(0)} ms`)
})

t.test('calls that return at once', async (t) => {
  const threads = native().cpu().threads
  t.teardown(() => native().setThreads(threads))
  const unet = await native().loadUnet(config, source)
  let ended = false
  const token = new (native().CancelToken)()
  const running = unet.predict(longCall(), token).catch(() => {})
  void running.then(() => (ended = true))
  await wait(100)
  for (const [name, call] of [
    ['cpuInfo()', () => void cpuInfo()],
    ['setThreads()', () => native().setThreads(threads === 1 ? 2 : 1)],
    ['trim()', () => void unet.trim()],
  ] as const) {
    const time = await fastest(20, async () => {
      const began = performance.now()
      call()
      return performance.now() - began
    })
    t.ok(time <= 20, `${name} during a forward: ${time.toFixed(1)} ms`)
  }
  t.notOk(ended, 'the forward is still running')
  token.cancel()
  await running
  await unet.trim()
  await unet.dispose()
})

t.test('freeing hundreds of megabytes', async (t) => {
  for (const what of ['dispose', 'trim'] as const) {
    const time = await fastest(20, async () => {
      const unet = await native().loadUnet(config, source)
      const token = new (native().CancelToken)()
      const running = unet.predict(longCall(), token).catch(() => {})
      await wait(300) // working memory is in use
      token.cancel()
      await running
      const began = performance.now()
      void unet[what]()
      const took = performance.now() - began
      await unet.dispose()
      return took
    })
    t.ok(time <= 20, `${what}(): ${time.toFixed(1)} ms`)
  }
})
