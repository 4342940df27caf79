/** Calls run on the engine's own threads: libuv's pool stays free for the rest of the program. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import t from 'tap'

const index = new URL('../../lib/index.js', import.meta.url).href

/** Runs a module in a process of its own; resolves to what it printed. */
async function run(source: string, env: NodeJS.ProcessEnv = {}): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', source], {
    env: { ...process.env, ...env },
  })
  return stdout.trim()
}

t.test("a file is read while a call is running, with one thread in libuv's pool", async (t) => {
  const printed = await run(
    `import { readFile } from 'node:fs/promises'
     import { DiffusionPipeline } from ${JSON.stringify(index)}
     const { unet, vae } = await DiffusionPipeline.load()
     const side = 64 / vae.factor, n = 128
     const tensor = (...shape) => ({ data: new Float32Array(shape.reduce((a, b) => a * b)), shape })
     const input = {
       latents: tensor(n, unet.config.inChannels, side, side),
       timestep: 500,
       context: tensor(n, 77, unet.config.contextWidth),
     }
     const abort = new AbortController()
     let settled = false
     const call = unet.predict(input, { signal: abort.signal }).catch(() => 'aborted').finally(() => { settled = true })
     await readFile(new URL(${JSON.stringify(index)}))
     const before = settled
     abort.abort()
     console.log(before, await call)`,
    { UV_THREADPOOL_SIZE: '1' },
  )
  t.equal(printed, 'false aborted')
})

t.test('process.exit() during a call ends the process with its status', async (t) => {
  const source = `import { DiffusionPipeline } from ${JSON.stringify(index)}
     const pipe = await DiffusionPipeline.load()
     pipe.generate({ prompt: 'a red apple', steps: 1000 }).catch(() => {})
     setTimeout(() => process.exit(7), 50)`
  await t.rejects(run(source), { code: 7 })
})

t.test('a worker that is terminated during a call leaves the process intact', async (t) => {
  const printed = await run(
    `import { Worker } from 'node:worker_threads'
     import { DiffusionPipeline } from ${JSON.stringify(index)}
     const source = \`
       import { parentPort } from 'node:worker_threads'
       import { DiffusionPipeline } from ${JSON.stringify(index)}
       const pipe = await DiffusionPipeline.load()
       pipe.generate({ prompt: 'a red apple', steps: 1000, onStep: () => parentPort.postMessage('step') }).catch(() => {})\`
     for (let i = 0; i < 3; i++) {
       const worker = new Worker(new URL('data:text/javascript,' + encodeURIComponent(source)))
       await new Promise((resolve) => worker.once('message', resolve))
       await worker.terminate()
     }
     const pipe = await DiffusionPipeline.load()
     const { images } = await pipe.generate({ prompt: 'a red apple', steps: 1 })
     console.log(images.length)`,
  )
  t.equal(printed, '1')
})
