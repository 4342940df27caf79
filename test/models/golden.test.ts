/**
 * All models of the fixtures compared with diffusers and transformers, whole tensors, with every kernel table of this
 * CPU.
 */
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { native } from '../../lib/native.js'
import { cases } from './fixtures.js'
import type { Report } from './run-cases.js'

const TOLERANCE = 1e-4
const script = fileURLToPath(new URL('./run-cases.js', import.meta.url))

for (const kernels of native().cpu().kernels) {
  t.test(`kernels ${kernels}`, async (t) => {
    const env = { ...process.env, NODE_DIFFUSION_KERNELS: kernels }
    const { stdout } = await promisify(execFile)(process.execPath, [script], { env, maxBuffer: 1 << 24 })
    const [head, ...reports] = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    t.equal(head.kernel, kernels, 'the requested table is in use')
    const names = new Set(cases.filter((c) => !c.model.startsWith('forms')).map((c) => c.name))
    for (const { name, threads, exact, error, scale, at } of reports as Report[]) {
      names.delete(name)
      const bound = exact ? 0 : TOLERANCE * scale
      // JSON has null in place of NaN, which is not a number below the bound.
      const ok = typeof error === 'number' && error <= bound
      t.ok(ok, `${name}, ${threads} threads: ${error} ≤ ${bound}`, { worstElement: at })
    }
    t.strictSame([...names], [], 'no case is missing')
  })
}
