import t from 'tap'
import { DiffusionError } from '../../lib/errors.js'
import { call } from './fake.js'

t.test('quantize prints a report', async (t) => {
  const { stdout, stderr, code, calls } = await call([
    'quantize',
    'in',
    'out.gguf',
    '-t',
    'Q4_K',
    '--rules',
    'a=f16',
  ])
  t.equal(code, 0)
  t.match(calls.quantize, [['in', 'out.gguf', { type: 'Q4_K', rules: 'a=f16' }]])
  t.ok(calls.quantize[0][2].signal instanceof AbortSignal)
  t.match(
    stdout,
    /^ +parameters +before +after +error +stored as\nunet mid attention +2\.0 M +7\.6 MiB +1\.9 MiB +7\.10 % +q4_k ×7, q5_0 ×2\nall +2\.0 M/,
  )
  t.match(stdout, /2 tensors with rows that do not fill q4_k's blocks of 256: stored as q5_0\n/)
  t.match(stdout, /warning: the rule \*nothing\*=f16 matches no tensor\nout\.gguf: 1\.9 MiB\n$/)
  t.match(stderr, /^Reading the model\nQuantizing to Q4_K step 50\/100/)
  t.match(
    (await call(['quantize', 'in', 'out.gguf', '-t', 'q4_k', '-v'])).stdout,
    /q5_0\n {2}unet\.a\.weight\n {2}unet\.b\.weight/,
  )
})

t.test('quantize --json and --quiet', async (t) => {
  const json = await call(['quantize', 'in', 'out.gguf', '--type', 'q4_k', '--json'])
  t.match(JSON.parse(json.stdout), {
    output: 'out.gguf',
    error: 0.071,
    groups: [{ name: 'unet mid attention' }],
  })
  t.equal(json.stderr, '')
  const quiet = await call(['quantize', 'in', 'out.gguf', '--type', 'q4_k', '-q'])
  t.same([quiet.stdout, quiet.stderr], ['', ''])
})

t.test('quantize with wrong usage and with errors', async (t) => {
  t.equal((await call(['quantize', 'in', 'out.gguf'])).code, 2, 'no type')
  t.equal((await call(['quantize', 'in', '--type', 'q8_0'])).code, 2, 'no output')
  const type = new RangeError('Expected one of f32 for type but received "x" of type string')
  t.equal((await call(['quantize', 'a', 'b', '-t', 'x'], { fail: type })).code, 2)
  const full = await call(['quantize', 'a', 'b', '-t', 'q8_0'], {
    fail: new DiffusionError('IO', 'Cannot write b: no space'),
  })
  t.same([full.code, full.stderr.split('\n').at(-2)], [1, 'error: Cannot write b: no space'])
  const abort = AbortSignal.abort()
  t.equal(
    (await call(['quantize', 'a', 'b', '-t', 'q8_0'], { fail: abort.reason as Error, signal: abort })).code,
    130,
  )
})
