/** Pinned memory of the host, through which numbers go to a GPU: pictures do not depend on it, and none of it is left. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { quick } from '../pipeline/support.js'
import { emulatedEnvironment, emulatorBuilt, emulatorExpected, inProcess } from './emulated.js'

const skip = !emulatorBuilt && !emulatorExpected
const environment = skip ? {} : emulatedEnvironment()
const options = { ...quick, steps: 1 }
const draw = `
  const pipe = await nd.DiffusionPipeline.load(undefined, { device: 'cuda' })
  const { images } = await pipe.generate(${JSON.stringify(options)})`

t.test('without pinned memory', { skip }, async (t) => {
  const code = `${draw}
    await pipe.dispose()
    return [...images[0].data]`
  const expected = await inProcess(environment, code)
  t.same(await inProcess({ ...environment, ND_EMULATED_PINNED_MB: '0' }, code), expected)
})

t.test('what is left', { skip }, async (t) => {
  const library = JSON.stringify(new URL('../../lib/index.js', import.meta.url).href)
  const worker = `
    const { Worker } = await import('node:worker_threads')
    const start = (more) => new Promise((resolve) => {
      const code = 'import { parentPort } from "node:worker_threads";' +
        'import { DiffusionPipeline } from ' + ${JSON.stringify(library)} + ';' +
        'parentPort.postMessage("begins");' +
        'const pipe = await DiffusionPipeline.load(undefined, { device: "cuda" });' + more
      const worker = new Worker(new URL('data:text/javascript,' + encodeURIComponent(code)))
      worker.on('message', (message) => resolve([worker, message]))
    })`
  for (const [name, code] of [
    ['after dispose', `${draw}; await pipe.dispose()`],
    ['where the process ends without it', draw],
    [
      'where a worker is terminated while it loads',
      `${draw}
       ${worker}
       const [loading] = await start('')
       await new Promise((resolve) => setTimeout(resolve, 30))
       await loading.terminate()
       await pipe.dispose()`,
    ],
    [
      'where a worker is terminated in the middle of a call',
      `${worker}
       const [drawing] = await start(${JSON.stringify(
         `for (let i = 0; ; i++) await pipe.generate(${JSON.stringify(options)})`,
       )})
       await new Promise((resolve) => setTimeout(resolve, 300))
       await drawing.terminate()`,
    ],
  ] as const) {
    const report = join(t.testdir(), 'report.json')
    await inProcess({ ...environment, ND_EMULATED_REPORT: report }, code)
    t.ok(existsSync(report), name)
    const left = JSON.parse(readFileSync(report, 'utf8')) as Record<string, number>
    t.match(left, { bytes: 0, pinned: 0, streams: 0, events: 0, contexts: 0 }, name)
  }
})
