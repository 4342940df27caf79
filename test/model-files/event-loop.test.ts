/** Huge and hostile headers and configurations do not keep the event loop. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { openModel } from '../../lib/models/index.js'
import { readSafetensors } from '../../lib/models/formats/safetensors.js'
import {
  ggufBytes,
  pair,
  safetensorsBytes,
  stringPair,
  stringsPair,
  text,
  u32,
  u64,
  writeJson,
} from './helpers.js'

const folder = mkdtempSync(join(tmpdir(), 'node-diffusion-loop-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))

/**
 * The longest time in milliseconds that the event loop waits while `work` runs. The processor's time counts if it is
 * less, so that other programs do not.
 */
async function longestDelay(work: () => Promise<unknown>): Promise<number> {
  let [last, cpu, longest, running] = [performance.now(), process.cpuUsage(), 0, true]
  const tick = () => {
    const [now, used] = [performance.now(), process.cpuUsage(cpu)]
    longest = Math.max(longest, Math.min(now - last, (used.user + used.system) / 1000))
    last = now
    cpu = process.cpuUsage()
    if (running) setImmediate(tick)
  }
  setImmediate(tick)
  await work().catch(() => {})
  running = false
  return longest
}

const safetensors = (json: string, data = 0) => Buffer.concat([safetensorsBytes(json), Buffer.alloc(data)])
const gguf = (...pairs: Buffer[]) => ggufBytes({}, { pairs }).head
const repeat = (count: number, make: (i: number) => string) =>
  Array.from({ length: count }, (_, i) => make(i)).join()
const tensors = (count: number, name: (i: number) => string) =>
  repeat(count, (i) => `"${name(i)}":{"dtype":"F16","shape":[1],"data_offsets":[${2 * i},${2 * i + 2}]}`)

const HOSTILE: Record<string, () => Buffer> = {
  'a hundred thousand tensors': () => safetensors(`{${tensors(150_000, (i) => `t${i}`)}}`),
  'as many tensors as are allowed': () =>
    safetensors(`{${tensors(16_384, (i) => `model.diffusion_model.${'x'.repeat(220)}.${i}`)}}`, 2 * 16_384),
  'metadata of a million keys': () =>
    safetensors(`{"__metadata__":{${repeat(1_000_000, (i) => `"${i}":""`)}}}`),
  'a long string of escapes': () => safetensors(`{"__metadata__":{"a":"${'\\u00e9'.repeat(2_000_000)}"}}`),
  'a name of 10 MB': () => safetensors(`{"${'a'.repeat(10_000_000)}":1}`),
  'a shape of five million lengths': () => safetensors(`{"a":{"shape":[${'0,'.repeat(5_000_000)}0]}}`),
  blanks: () => safetensors(`{"a":[${`${' '.repeat(60_000)}0,`.repeat(200)}0]}`),
  'no UTF-8': () => safetensors('"').fill(0xff, 10),
  'many metadata pairs': () =>
    gguf(...Array.from({ length: 65_536 }, (_, i) => stringPair(`k${i}`, 'v'.repeat(150)))),
  'a vocabulary of a million words': () => gguf(stringsPair('tokens', Array<string>(1_000_000).fill('word'))),
  'arrays in arrays': () =>
    gguf(
      pair(
        'a',
        9,
        Buffer.concat([
          u32(9),
          u64(300_000),
          ...Array<Buffer>(300_000).fill(Buffer.concat([u32(4), u64(1), u32(7)])),
        ]),
      ),
    ),
  'a configuration of five million lists': () =>
    gguf(stringPair('node_diffusion.config', `[${'[],'.repeat(5_000_000)}[]]`)),
  'a long string': () => gguf(pair('a', 8, text('é'.repeat(10_000_000)))),
}

t.test('hostile headers', async (t) => {
  for (const [name, make] of Object.entries(HOSTILE)) {
    const bytes = make()
    const path = join(folder, `hostile.${bytes.toString('latin1', 0, 4) === 'GGUF' ? 'gguf' : 'safetensors'}`)
    writeFileSync(path, bytes)
    const longest = await longestDelay(() => openModel(path))
    t.ok(longest < 100, `${name}: ${longest.toFixed(1)} ms`)
  }
})

t.test('hostile configurations', async (t) => {
  const path = join(folder, 'model')
  writeJson(join(path, 'model_index.json'), `{"a":[${'[],'.repeat(1_300_000)}[]]}`)
  const longest = await longestDelay(() => openModel(path))
  t.ok(longest < 100, `${longest.toFixed(1)} ms`)
})

t.test('many at once', async (t) => {
  const path = join(folder, 'many.safetensors')
  writeFileSync(path, HOSTILE['as many tensors as are allowed']())
  const longest = await longestDelay(() =>
    Promise.all(Array.from({ length: 12 }, () => readSafetensors(path))),
  )
  t.ok(longest < 100, `${longest.toFixed(1)} ms`)
})

t.test('a huge but honest header is read', async (t) => {
  const path = join(folder, 'honest.safetensors')
  const metadata = `"__metadata__":{"tags":"${'an "escaped" word, '.replaceAll('"', '\\"').repeat(1_000_000)}"}`
  writeFileSync(path, safetensors(`{${metadata},${tensors(10_000, (i) => `tensor.${i}`)}}   `, 20_000))
  let file: Awaited<ReturnType<typeof readSafetensors>> | undefined
  const longest = await longestDelay(async () => (file = await readSafetensors(path)))
  t.ok(longest < 100, `${longest.toFixed(1)} ms`)
  t.equal(file?.tensors.size, 10_000)
  t.equal(file?.tensors.get('tensor.9999')?.bytes, 2)
  t.equal((file?.metadata.get('tags') as string).length, 19_000_000)
})
