/**
 * Speed and memory; nothing here is ever part of the tests.
 *
 * usage: npm run bench -- [options]
 *   --model PATH     a full-size model (shared/peers/make_sd15.py writes one); without it, only the model in the box
 *   --size 512 --batch 1 --repeat 3 --threads N
 *   --precision auto|f32|bf16|int8   what our products multiply (auto: as the weights are stored)
 *   --only a,b       only these cases (--list names them; 'kernels' is one)
 *   --rounds 1       how often everything is done, peers included; the best of each counts
 *   --peers SCRIPT   also time PyTorch and OpenVINO: the path of bench_peers.py; --model must be a diffusers folder
 *   --peer-list torch-fp32,torch-bf16,openvino-f32,openvino-bf16,openvino-int8
 *   --python python3
 *   --json FILE      default: build/bench/results.json
 *   --write          put the figures into docs/benchmarks.md, under today's date
 *   --heading TEXT   the section's heading there
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { runJson } from './process.mjs'
import { machine, markdown, writeSection } from './report.mjs'

const here = dirname(fileURLToPath(import.meta.url))
const root = resolve(here, '..')

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    size: { type: 'string', default: '512' },
    batch: { type: 'string', default: '1' },
    repeat: { type: 'string', default: '3' },
    threads: { type: 'string' },
    precision: { type: 'string', default: 'auto' },
    only: { type: 'string' },
    list: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '1' },
    peers: { type: 'string' },
    'peer-list': {
      type: 'string',
      default: 'torch-fp32,torch-bf16,openvino-f32,openvino-bf16,openvino-int8',
    },
    python: { type: 'string', default: 'python3' },
    json: { type: 'string', default: join(root, 'build', 'bench', 'results.json') },
    write: { type: 'boolean', default: false },
    heading: { type: 'string' },
  },
})
if (!existsSync(join(root, 'dist', 'native.js'))) {
  console.error('There is no dist/: run `npm run build` first')
  process.exit(2)
}

const { cases } = await import('./cases.mjs')
if (values.list) {
  for (const [name, { title, full }] of Object.entries(cases))
    console.log(`${name.padEnd(20)} ${title}${full ? '  (--model)' : ''}`)
  console.log(`${'kernels'.padEnd(20)} kernel-bench on one thread, with the measured FMA peak`)
  process.exit(0)
}

function count(name) {
  const value = Number(values[name])
  if (Number.isInteger(value) && value >= 1) return value
  console.error(`Expected an integer of at least 1 for --${name} but received ${values[name]}`)
  process.exit(2)
}

const options = {
  model: values.model && resolve(values.model),
  size: count('size'),
  batch: count('batch'),
  repeat: count('repeat'),
  ...(values.threads ? { threads: count('threads') } : {}),
  precision: values.precision,
}
const only = values.only?.split(',')
const chosen = Object.keys(cases).filter((name) =>
  only ? only.includes(name) : options.model || !cases[name].full,
)
for (const name of only ?? []) {
  if (name === 'kernels' || cases[name]) continue
  console.error(
    `Expected one of ${[...Object.keys(cases), 'kernels'].join(', ')} for --only but received ${name}`,
  )
  process.exit(2)
}
if (!options.model && chosen.some((name) => cases[name].full)) {
  console.error('Expected --model PATH for these cases')
  process.exit(2)
}

/** Smaller is better in all figures that are compared between rounds. */
function better(a, b) {
  if (!a || a.error) return b
  const time = (row) => row.wallSeconds ?? row.seconds ?? row.unet_s ?? Infinity
  return !b.error && time(b) < time(a) ? b : a
}

async function ours(name) {
  const { rows, seconds, status } = await runJson(process.execPath, [
    '--expose-gc',
    join(here, 'case.mjs'),
    name,
    JSON.stringify(options),
  ])
  const row = rows.at(-1) ?? { error: `failed, status ${status}` }
  // The only case that is about the process as a whole.
  const wall = name === 'box' ? { wallSeconds: seconds } : {}
  return { case: name, title: cases[name].title, ...row, ...wall }
}

async function theirs(peer) {
  const args = [resolve(values.peers), options.model, '--peers', peer]
  for (const key of ['size', 'batch', 'repeat', 'threads'])
    if (options[key]) args.push(`--${key}`, String(options[key]))
  const { rows, status } = await runJson(values.python, args)
  return rows.at(-1) ?? { peer, error: `failed, status ${status}` }
}

/** kernel-bench, where it was built (cmake -DND_TESTS=ON). */
function kernelBench() {
  const places = ['build/cmake', 'build/dev', 'build'].map((folder) => join(root, folder, 'kernel-bench'))
  const binary = process.env.KERNEL_BENCH ?? places.find((place) => existsSync(place))
  if (!binary) {
    console.error('kernel-bench was not built (cmake -DND_TESTS=ON, target kernel-bench): no kernel figures')
    return ''
  }
  return execFileSync(binary, [], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
}

console.log(machine())
const found = new Map()
const peers = new Map()
for (let round = 0; round < count('rounds'); round++) {
  for (const name of chosen) {
    const row = await ours(name)
    found.set(name, better(found.get(name), row))
    console.log(JSON.stringify(row))
  }
  for (const peer of values.peers ? values['peer-list'].split(',') : []) {
    const row = await theirs(peer)
    peers.set(peer, better(peers.get(peer), row))
    console.log(JSON.stringify(row))
  }
}
const kernels = !only || only.includes('kernels') ? kernelBench() : ''
const peak = /^.*peak.*$/im.exec(kernels)?.[0].trim()

const rows = [...found.values()]
const cpu = {
  kernel: rows.find((row) => row.kernel)?.kernel ?? '',
  threads: rows.find((row) => row.threads)?.threads ?? '',
}
const results = {
  date: new Date().toISOString(),
  machine: machine(),
  options,
  cpu,
  rows,
  peers: [...peers.values()],
  kernels,
  peak,
}
mkdirSync(dirname(resolve(values.json)), { recursive: true })
writeFileSync(values.json, `${JSON.stringify(results, null, 1)}\n`)

const body = markdown(results)
console.log(`\n${body}\n\n${values.json}`)
if (values.write) {
  const heading = values.heading ?? `${results.date.slice(0, 10)}, ${cpus()[0]?.model.trim() ?? process.arch}`
  writeSection(join(root, 'docs', 'benchmarks.md'), heading, body)
}
process.exitCode = rows.some((row) => row.error) ? 1 : 0
