import t from 'tap'
import { call } from './fake.js'

t.test('merge prints what each file changed and the sizes', async (t) => {
  const { stdout, stderr, code, calls } = await call([
    ...['merge', 'in', 'out.gguf', '--lora', 'style.pt:0.5', '--lora', 'b.safetensors'],
    ...['-t', 'q8_0', '--rules', 'a=f16'],
  ])
  t.equal(code, 0)
  const loras = [
    { path: 'style.pt', scale: 0.5 },
    { path: 'b.safetensors', scale: 1 },
  ]
  t.match(calls.merge, [['in', 'out.gguf', { loras, type: 'q8_0', rules: 'a=f16' }]])
  t.ok(calls.merge[0][2].signal instanceof AbortSignal)
  t.match(stdout, /\nstyle\.pt: LoRA, scale 0\.5, 6 tensors applied, warning: 1 without a place\n/)
  t.match(stdout, /out\.gguf: 1\.9 MiB\n$/)
  t.match(stderr, /^Reading the model\nMerging step 50\/100/)
  t.match((await call(['merge', 'in', 'out.gguf', '--lora', 'a', '-v'])).stdout, / place\n {2}x\\u001b\n/)
})

t.test('merge --json, --quiet and wrong usage', async (t) => {
  const json = await call(['merge', 'in', 'out.gguf', '--lora', 'a', '--json'])
  t.match(JSON.parse(json.stdout), { output: 'out.gguf', adapters: [{ kind: 'LoRA', applied: 6 }] })
  const quiet = await call(['merge', 'in', 'out.gguf', '--lora', 'a', '-q'])
  t.same([quiet.stdout, quiet.stderr], ['', ''])
  t.equal((await call(['merge', 'in', 'out.gguf'])).code, 2, 'no LoRA')
  t.equal((await call(['merge', 'in', '--lora', 'a'])).code, 2, 'no output')
})
