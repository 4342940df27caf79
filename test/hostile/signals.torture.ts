/**
 * The command line in processes of their own, each hit at a random moment: signals once and twice, streams whose reader
 * leaves or reads nothing. The program ends in time and with a documented status, and leaves complete files or none.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { bundledModelPath, openModel } from '../../lib/index.js'
import { emptyResult, Random, type Result } from './harness.js'

export const name = 'signals and closed streams of every command'
export const counts = { small: 24, full: 300 }

const program = fileURLToPath(new URL('../../lib/cli/main.js', import.meta.url))
const model = bundledModelPath()

/** Milliseconds from the last signal to the end: a tenth of a second, as docs/cli.md says, and a second for the system. */
const timeToEnd = 1100
/** A busy machine can delay any process. Only what is late every time is at fault. */
const attempts = 3

const picture = ['noto pizza', '--seed', '1']
const commands: Record<string, string[]> = {
  'named file': [...picture, '--steps', '60', '-o', 'a.png', '-v'],
  'chosen names': [...picture, '--steps', '8', '-n', '6', '--format', 'webp'],
  preview: [...picture, '--steps', '60', '--preview', '-o', 'a.jpg', '--json'],
  'standard output': [...picture, '--steps', '5', '--size', '256', '-o', '-'],
  'large forward': [...picture, '--steps', '2', '--size', '768', '-o', 'a.png'],
  'prompt from standard input': ['-', '--steps', '20', '-o', 'a.png'],
  quantize: ['quantize', model, 'a.gguf', '-t', 'q4_k'],
  'quantize, quietly': ['quantize', model, 'a.gguf', '-t', 'f32', '-q'],
  info: ['info', model, '--size', '64'],
  schedulers: ['schedulers'],
  help: ['help', 'quantize'],
}

/** What happens to the program: signals, or streams whose reader leaves. */
type Blow = (NodeJS.Signals | 'stdout' | 'stderr')[]
const blows: Blow[] = [
  ['SIGINT'],
  ['SIGINT', 'SIGINT'],
  ['SIGINT', 'SIGINT', 'SIGINT'],
  ['SIGTERM'],
  ['SIGTERM', 'SIGTERM'],
  ['SIGHUP'],
  ['SIGHUP', 'SIGTERM'],
  ['stderr', 'SIGHUP'],
  ['stdout'],
  ['stderr'],
  ['stdout', 'stderr'],
  ['stdout', 'SIGINT'],
]

interface Case {
  command: string
  blow: Blow
  /** Milliseconds from the start to the first blow, and between two. */
  after: number
  between: number
  /** Whether standard output is read. */
  reads: boolean
}

export async function run({ count, seed }: { count: number; seed: number }): Promise<Result> {
  const random = new Random(seed)
  const result = emptyResult()
  const durations = new Map<string, number>()
  for (let i = 0; i < count; i++) {
    const command = random.pick(Object.keys(commands))
    const blow = random.pick(blows)
    // Every fourth moment is near the end, when Node takes the process down.
    const moment = random.below(4) > 0 ? random.next() : 0.85 + 0.2 * random.next()
    const [between, reads] = [random.below(2) * random.below(80), random.below(4) > 0]
    if (!durations.has(command)) durations.set(command, await duration(command))
    const hit = { command, blow, between, reads, after: moment * durations.get(command)! }
    let failures: string[] = []
    for (let attempt = 0; attempt < attempts; attempt++) {
      const outcome = await one(hit)
      failures = outcome.failures
      result.leaked += outcome.leaked
      if (outcome.hung) result.crashed++
      if (!outcome.late) break
    }
    result.tried++
    result.failures.push(
      ...failures.map((failure) => `seed ${seed}, case ${i}, ${JSON.stringify(hit)}: ${failure}`),
    )
  }
  return result
}

/** Milliseconds of the command when nothing happens to it. */
async function duration(command: string): Promise<number> {
  const began = performance.now()
  await one({ command, blow: [], after: 0, between: 0, reads: true })
  return performance.now() - began
}

interface Outcome {
  failures: string[]
  leaked: number
  late: boolean
  hung: boolean
}

async function one({ command, blow, after, between, reads }: Case): Promise<Outcome> {
  const cwd = mkdtempSync(join(tmpdir(), 'node-diffusion-signals-'))
  // The test runner's options would add a module that handles signals itself.
  const child = spawn('env', ['-u', 'NODE_OPTIONS', process.execPath, program, ...commands[command]], { cwd })
  let said = ''
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()))
  if (reads) child.stdout.resume()
  child.stdin.on('error', () => {})
  if (blow.length === 0) child.stdin.end('noto pizza')
  let ended = false
  const end = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) =>
    child.on('exit', (code, signal) => {
      ended = true
      resolve({ code, signal })
    }),
  )
  await Promise.race([end, wait(after)])
  // Until then, signals have their default effect: nothing has been written yet.
  const handled = ended || handlesSignals(child)
  for (const [i, what] of blow.entries()) {
    if (i > 0) await Promise.race([end, wait(between)])
    if (what === 'stdout' || what === 'stderr') child[what].destroy()
    else if (!ended) child.kill(what)
  }
  const signalled = blow.some((what) => what.startsWith('SIG'))
  if (!signalled) {
    // Without a signal, the program goes on and must come to its end by itself.
    child.stdin.end('noto pizza')
    child.stdout.resume()
  }
  const struck = performance.now()
  const limit = signalled ? 30_000 : 120_000
  const { code, signal } = await Promise.race([end, wait(limit).then(() => ({ code: null, signal: null }))])
  const took = performance.now() - struck
  const hung = !ended
  if (hung) child.kill('SIGKILL')
  await end
  for (const stream of [child.stdin, child.stdout, child.stderr]) stream.destroy()

  const failures: string[] = []
  const fail = (why: string) =>
    failures.push(`${why}${said && `; it said: ${JSON.stringify(said.slice(-300))}`}`)
  const late = signalled && took > timeToEnd
  if (hung) fail(`it did not end within ${limit / 1000} s`)
  else if (signal) {
    if (handled || !blow.includes(signal)) fail(`ended by ${signal}`)
  } else if (!allowed(command, blow).includes(code!)) fail(`exit status ${code}`)
  if (late) fail(`it took ${took.toFixed(0)} ms to end`)
  if (/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/.test(said)) fail('it printed control characters')
  let leaked = 0
  for (const file of readdirSync(cwd)) {
    const path = join(cwd, file)
    if (await complete(path)) continue
    leaked += statSync(path).size
    fail(`it left ${file} of ${statSync(path).size} bytes`)
  }
  rmSync(cwd, { recursive: true, force: true })
  return { failures, leaked, late: late || hung, hung }
}

/** The exit statuses that docs/cli.md allows. */
function allowed(command: string, blow: Blow): number[] {
  const statuses = [0]
  if (blow.some((what) => what.startsWith('SIG'))) statuses.push(130)
  if (command === 'standard output' && blow.includes('stdout')) statuses.push(1)
  return statuses
}

/** Whether the program has come so far that it handles signals. Node itself has no handler for SIGHUP, the lowest bit. */
function handlesSignals({ pid }: ChildProcess): boolean {
  try {
    return /^SigCgt:.*[13579bdf]$/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

async function complete(path: string): Promise<boolean> {
  try {
    if (path.endsWith('.gguf')) await openModel(path)
    else if (!/\.(png|jpg|webp)$/.test(path)) return false
    // Decodes every row.
    else await sharp(path, { failOn: 'warning' }).stats()
    return true
  } catch {
    return false
  }
}
