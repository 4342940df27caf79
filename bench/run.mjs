/** Runs the cases, each in a process of its own, and reports the figures. `npm run bench -- --help` lists the options. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { extras, planJobs, scalingModel } from './jobs.mjs'
import { kernelFigures } from './kernels.mjs'
import { parseOptions, usage, UsageError } from './options.mjs'
import { runJson } from './process.mjs'
import { machine, markdown, writeSection } from './report/index.mjs'

const here = dirname(fileURLToPath(import.meta.url))
const root = resolve(here, '..')

function fail(message) {
  console.error(message)
  process.exit(2)
}

let options
try {
  options = parseOptions(process.argv.slice(2), root)
} catch (error) {
  fail(error instanceof UsageError || error.code?.startsWith('ERR_PARSE_ARGS') ? error.message : error)
}
if (options.help) {
  console.log(usage)
  process.exit(0)
}
if (!existsSync(join(root, 'dist', 'native.js'))) fail('There is no dist/: run `npm run build` first')

const { cases } = await import('./cases/index.mjs')
if (options.list) {
  const groups = { quality: 'quality', tinyVae: 'tiny-vae', controlNet: 'control-net' }
  const models = { each: '(each --model)', first: '(first --model)', all: '(all --models)', bundled: '' }
  for (const [name, { title, of, group }] of Object.entries(cases))
    console.log(`${name.padEnd(20)} ${title} ${models[of]}${group ? ` (--${groups[group]})` : ''}`)
  for (const [name, title] of Object.entries(extras)) console.log(`${name.padEnd(20)} ${title}`)
  process.exit(0)
}
let jobs
try {
  jobs = planJobs(cases, options)
} catch (error) {
  fail(error instanceof UsageError ? error.message : error)
}

/** The better of two results: the figures that rounds are compared by are times. */
function better(a, b) {
  if (!a || a.error) return b
  const time = (row) => row.wallSeconds ?? row.seconds ?? row.unet_s ?? Infinity
  return !b.error && time(b) < time(a) ? b : a
}

async function measureCase({ name, title, model, point }) {
  const { size, batch, repeat, threads, tinyVae, controlNet, models } = options
  const given = { size, batch, repeat, threads, tinyVae, controlNet, ...point }
  const caseOptions = model
    ? { ...given, model: model.path, precision: model.precision }
    : { ...given, models }
  const args = ['--expose-gc', join(here, 'case.mjs'), name, JSON.stringify(caseOptions)]
  const { rows, seconds, status, signal } = await runJson(process.execPath, args)
  const row = rows.at(-1) ?? { error: `failed, ${signal ?? `status ${status}`}` }
  // This is the only case that measures the process as a whole.
  const wall = name === 'bundled' && !row.error ? { wallSeconds: seconds } : {}
  return {
    case: name,
    title,
    ...(model ? { model: model.label } : {}),
    ...(point ? { point } : {}),
    ...row,
    ...wall,
  }
}

async function measurePeer(peer) {
  const args = [options.peers, options.peerModel, '--peers', peer]
  for (const key of ['size', 'batch', 'repeat', 'threads'])
    if (options[key]) args.push(`--${key}`, String(options[key]))
  const { rows, status } = await runJson(options.python, args)
  return rows.at(-1) ?? { peer, error: `failed, status ${status}` }
}

/** A case that cannot be measured becomes a row that says why, and the others go on. */
async function attempt(work, row) {
  try {
    return await work()
  } catch (error) {
    return { ...row, error: String(error.message) }
  }
}

console.log(machine())
const found = new Map()
const peers = new Map()
for (let round = 0; round < options.rounds; round++) {
  for (const job of jobs) {
    const key = JSON.stringify([job.name, job.model?.label, job.point])
    const row = await attempt(() => measureCase(job), {
      case: job.name,
      title: job.title,
      model: job.model?.label,
    })
    found.set(key, better(found.get(key), row))
    console.log(JSON.stringify(row))
  }
  for (const peer of options.peerList) {
    const row = await attempt(() => measurePeer(peer), { peer })
    peers.set(peer, better(peers.get(peer), row))
    console.log(JSON.stringify(row))
  }
}

const rows = [...found.values()]
const { native } = await import('../dist/native.js')
const cpu = native().cpu()
const threads = options.threads ?? rows.find((row) => row.threads && !row.point)?.threads ?? cpu.threads
const everything = !options.only || options.only.includes('kernels')
const measured =
  everything || rows.some((row) => row.layers)
    ? await kernelFigures(root, { kernel: cpu.kernel, threads, everything })
    : {}
if (measured.error) console.error(measured.error)

const results = {
  date: new Date().toISOString(),
  machine: machine(),
  options,
  cpu: { kernel: cpu.kernel, threads },
  rows,
  peers: [...peers.values()],
  measured,
  scaled: options.models.length > 0 ? scalingModel(options.models).label : undefined,
}
mkdirSync(dirname(options.json), { recursive: true })
writeFileSync(options.json, `${JSON.stringify(results, null, 1)}\n`)

const body = markdown(results)
console.log(`\n${body}\n\n${options.json}`)
if (options.write) {
  const heading =
    options.heading ?? `${results.date.slice(0, 10)}, ${cpus()[0]?.model.trim() ?? process.arch}`
  writeSection(join(root, 'docs', 'benchmarks.md'), heading, body)
}
const failed = [...rows, ...results.peers].filter((row) => row.error)
for (const row of failed) console.error(`${row.case ?? row.peer} ${row.model ?? ''}: ${row.error}`)
process.exitCode = failed.length > 0 ? 1 : 0
