/**
 * `npm run compare -- A B [FILTER]`: shows that a change of the code changed no result. Runs the same computations
 * (cases.mjs) with two built checkouts, each in its own process, and compares the results bit for bit. Fixture models
 * run with every kernel table of this CPU; quantized models and whole pictures run with the best table. Exit status 1
 * when anything differs. FILTER is a part of the cases' names.
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const script = join(dirname(fileURLToPath(import.meta.url)), 'cases.mjs')
const [a, b, filter = ''] = process.argv.slice(2)
const checkouts = [a, b].map((folder) => folder && resolve(folder))
for (const folder of checkouts)
  if (!folder || !existsSync(join(folder, 'dist', 'index.js'))) {
    console.error(
      folder ? `${folder} has no dist/: build it first` : 'Usage: npm run compare -- A B [FILTER]',
    )
    process.exit(2)
  }

/** A process that runs cases with one checkout: name → hash or error. */
async function results(checkout, args, kernels) {
  const env = { ...process.env, ...(kernels && { NODE_DIFFUSION_KERNELS: kernels }) }
  const child = spawn(process.execPath, [script, checkout, ...args], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const exited = new Promise((done) => child.on('close', (status, signal) => done(signal ?? status)))
  const found = new Map()
  for await (const line of createInterface({ input: child.stdout })) {
    const { name, result } = JSON.parse(line)
    found.set(name, result)
  }
  const status = await exited
  if (status !== 0) throw new Error(`${checkout}: the process of its cases ended with ${status}`)
  return found
}

const began = performance.now()
let equal = 0
let different = 0

/** Runs a set of cases in both checkouts and reports. */
async function compare(set, kernels) {
  const [ours, theirs] = [
    await results(checkouts[0], [set, filter], kernels),
    await results(checkouts[1], [set, filter], kernels),
  ]
  for (const name of new Set([...ours.keys(), ...theirs.keys()])) {
    const [left = 'missing', right = 'missing'] = [ours.get(name), theirs.get(name)]
    const same = left === right && /^[0-9a-f]+$/.test(left)
    if (same) equal++
    else different++
    console.log(`${same ? 'equal    ' : 'DIFFERENT'} ${kernels}/${name}  ${left}${same ? '' : ` ≠ ${right}`}`)
  }
}

const tables = await results(checkouts[0], ['tables'])
const lists = [tables, await results(checkouts[1], ['tables'])].map((found) => found.get('tables'))
if (lists[0] !== lists[1])
  console.log(`The kernel tables differ: ${lists.join(' and ')}. Those of the first are asked for.`)
const [best, ...others] = lists[0].split(' ')
await compare('all', best)
for (const table of others) await compare('components', table)

const seconds = ((performance.now() - began) / 1000).toFixed(0)
console.log(`${equal} equal, ${different} different, in ${seconds} s`)
process.exit(different > 0 || equal === 0 ? 1 : 0)
