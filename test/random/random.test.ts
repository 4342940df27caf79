import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import {
  BatchRandom,
  PhiloxRandom,
  randomFor,
  randomForBatch,
  TorchRandom,
  type RngName,
} from '../../lib/random/index.js'
import { fma, log, sincos } from '../../lib/random/float32.js'

let folder = dirname(fileURLToPath(import.meta.url))
while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder)
folder = join(folder, 'test', 'fixtures', 'random')

interface Case {
  rng: RngName
  seed: string
  shapes: number[][]
}

const { cases } = JSON.parse(readFileSync(join(folder, 'noise.json'), 'utf8')) as { cases: Case[] }
const bytes = readFileSync(join(folder, 'noise.bin'))
const floats = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length))

t.test('the same floats as the references in consecutive draws', (t) => {
  let at = 0
  for (const { rng, seed, shapes } of cases) {
    const random = randomFor(rng, BigInt(seed))
    for (const shape of shapes) {
      const { data, shape: got } = random.normal(shape)
      const want = floats.subarray(at, (at += data.length))
      const wrong = data.findIndex((value, i) => !Object.is(value, want[i]))
      t.equal(
        wrong,
        -1,
        `${rng} ${seed} [${shape}]: number ${wrong} is ${data[wrong]}, expected ${want[wrong]}`,
      )
      t.strictSame(got, shape)
    }
  }
  t.equal(at, floats.length, 'the whole fixture is used')
  t.end()
})

t.test("the example of a CUDA device in the web UI's documentation", (t) => {
  const { data } = new PhiloxRandom(0).normal([3, 4])
  const want = [
    -0.92466259, -0.42534415, -2.6438457, 0.14518388, -0.12086647, -0.57972564, -0.62285122, -0.32838709,
    -1.07454231, -0.36314407, -1.67105067, 2.26550497,
  ]
  t.ok(want.every((value, i) => Math.abs(value - data[i]) < 3e-7))
  t.end()
})

t.test('a million numbers have the moments of N(0, 1)', (t) => {
  for (const random of [new TorchRandom(99), new PhiloxRandom(99)]) {
    const { data } = random.normal([1_000_000])
    const mean = data.reduce((sum, x) => sum + x, 0) / data.length
    const variance = data.reduce((sum, x) => sum + x * x, 0) / data.length - mean ** 2
    const fourth = data.reduce((sum, x) => sum + x ** 4, 0) / data.length
    t.ok(Math.abs(mean) < 0.005, `mean ${mean}`)
    t.ok(Math.abs(variance - 1) < 0.01, `variance ${variance}`)
    t.ok(Math.abs(fourth - 3) < 0.05, `fourth moment ${fourth}`)
  }
  t.end()
})

t.test('single-precision functions are accurate to their last bits', (t) => {
  const pair = new Float32Array(2)
  for (let i = 1; i <= 4096; i++) {
    const u = i / 4096
    const off = Math.abs(log(u) - Math.log(u))
    if (!(off <= 2e-7 * Math.max(1, -Math.log(u)))) t.fail(`log ${u}: ${off}`)
    const angle = Math.fround(2 * Math.PI * u)
    sincos(angle, pair)
    const error = Math.max(Math.abs(pair[0] - Math.sin(angle)), Math.abs(pair[1] - Math.cos(angle)))
    if (!(error <= 2e-7)) t.fail(`sincos ${angle}: ${error}`)
  }
  t.equal(fma(3, 5, 7), 22)
  // 1 + 2^-24 lies halfway between two floats. A tie goes to the even one; otherwise the rounding error of the double
  // decides.
  t.equal(fma(2 ** -12, 2 ** -12, 1), 1)
  t.equal(fma(2 ** -12 + 2 ** -35, 2 ** -12 - 2 ** -35, 1), 1, 'just below')
  t.equal(fma(2 ** -24 * (1 + 2 ** -23), 1 + 2 ** -23, 1), 1 + 2 ** -23, 'above, which double can represent')
  t.equal(fma(2 ** -30, 2 ** -30, 1 + 2 ** -24 - 2 ** -24), 1)
  t.end()
})

t.test('a batch has one source for each image', (t) => {
  for (const rng of ['torch', 'philox'] as const) {
    const batch = randomForBatch(rng, 41, 3)
    const singles = [41, 42, 43n].map((seed) => randomFor(rng, seed))
    for (let draw = 0; draw < 2; draw++) {
      const { data, shape } = batch.normal([3, 4, 8, 8])
      t.strictSame(shape, [3, 4, 8, 8])
      const want = singles.flatMap((single) => [...single.normal([1, 4, 8, 8]).data])
      t.strictSame([...data], want, `${rng}, draw ${draw}`)
    }
    t.throws(() => batch.normal([2, 4]), RangeError)
  }
  t.strictSame(
    randomForBatch('torch', 2n ** 64n - 1n, 2)
      .normal([2, 16])
      .data.slice(16),
    randomFor('torch', 0).normal([16]).data,
  )
  t.ok(new BatchRandom([new TorchRandom(1)]).normal([1, 3]))
  t.end()
})

t.test('seeds, names and shapes are checked', (t) => {
  t.throws(() => new TorchRandom(1.5), {
    name: 'TypeError',
    message: /integer for seed but received 1.5 of type number/,
  })
  t.throws(() => new TorchRandom('1' as never), TypeError)
  t.throws(() => new TorchRandom(2 ** 60), { name: 'RangeError', message: /bigint/ })
  t.throws(() => new PhiloxRandom(2n ** 64n), { name: 'RangeError', message: /2\^64-1/ })
  t.throws(() => new PhiloxRandom(-(2n ** 63n) - 1n), RangeError)
  t.throws(() => randomFor('cuda' as never, 1), /one of torch, philox for rng but received "cuda"/)
  t.throws(() => new TorchRandom(1).normal([1, -1]), TypeError)
  t.throws(() => new TorchRandom(1).normal([0.5]), TypeError)
  t.equal(new TorchRandom(1).normal([0]).data.length, 0)
  t.equal(new TorchRandom(1).normal([]).data.length, 1, 'a scalar')
  t.end()
})
