/** Small models with ControlNets (tools/fixtures/control.py). */
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { bundledModelPath } from '../../lib/index.js'
import { packageRoot } from '../../lib/package-root.js'

export const fixtures = join(packageRoot(), 'test', 'fixtures', 'control')

export type Family = 'sd1' | 'sd2' | 'sdxl'

/** The base models with the bundled model's tokenizer for every text encoder. */
export const root = mkdtempSync(join(tmpdir(), 'node-diffusion-control-'))
t.teardown(() => rmSync(root, { recursive: true, force: true }))
export const base = { sd1: join(root, 'sd1'), sd2: join(root, 'sd2'), sdxl: join(root, 'sdxl') }
for (const family of ['sd1', 'sd2'] as const)
  cpSync(join(fixtures, family), base[family], { recursive: true })
cpSync(join(fixtures, '..', 'sdxl', 'base'), base.sdxl, { recursive: true })
for (const [family, names] of [
  ['sd1', ['tokenizer']],
  ['sd2', ['tokenizer']],
  ['sdxl', ['tokenizer', 'tokenizer_2']],
] as const)
  for (const name of names)
    cpSync(join(bundledModelPath(), 'tokenizer'), join(base[family], name), { recursive: true })

/** Two ControlNets of this family. */
export const nets = (family: Family) => ['a', 'b'].map((name) => join(fixtures, `${family}-${name}`))
