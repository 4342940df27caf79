/** The program in a process of its own, with the bundled model. */
import { spawn, type ChildProcess } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import t from 'tap'
import { readPngTexts } from '../../lib/image/png.js'

const PROGRAM = fileURLToPath(new URL('../../lib/cli/main.js', import.meta.url))

interface Ended {
  code: number | null
  stdout: Buffer
  stderr: string
}

const start = (
  args: string[],
  cwd = '.',
  flags: string[] = [],
): { child: ChildProcess; ended: Promise<Ended> } => {
  // tap would add a module to the program that handles signals itself.
  const child = spawn('env', ['-u', 'NODE_OPTIONS', process.execPath, ...flags, PROGRAM, ...args], {
    cwd,
    stdio: 'pipe',
  })
  const out: Buffer[] = []
  const err: Buffer[] = []
  child.stdout.on('data', (chunk: Buffer) => out.push(chunk))
  child.stderr.on('data', (chunk: Buffer) => err.push(chunk))
  const ended = new Promise<Ended>((done) => {
    child.on('close', (code) =>
      done({ code, stdout: Buffer.concat(out), stderr: Buffer.concat(err).toString() }),
    )
  })
  return { child, ended }
}

/** Resolves when the program has printed `text`. */
const printed = (child: ChildProcess, text: string): Promise<void> =>
  new Promise((done) => child.stderr!.on('data', (chunk: Buffer) => chunk.includes(text) && done()))

/** Resolves when the program has its signal handlers. Node itself has none for SIGHUP, the lowest bit of the mask. */
const handlesSignals = async ({ pid }: ChildProcess): Promise<void> => {
  while (!/^SigCgt:.*[13579bdf]$/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))) await sleep(10)
}

t.test('--version and --help load neither the addon nor sharp', async (t) => {
  const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }
  // The shared libraries of the process, as it ends.
  const listing = `process.on('exit', () => process._rawDebug(process.report.getReport().sharedObjects.join('\\n')))`
  const loaded = `--import=data:text/javascript,${encodeURIComponent(listing)}`
  const libraries = /node_diffusion|sharp|vips/
  const { code, stdout, stderr } = await start(['--version'], '.', [loaded]).ended
  t.same([code, stdout.toString()], [0, `${version}\n`])
  t.match(stderr, /\.so/)
  t.notMatch(stderr, libraries)
  const help = await start(['--help'], '.', [loaded]).ended
  t.equal(help.code, 0)
  t.notMatch(help.stderr, libraries)
  t.match((await start(['info'], '.', [loaded]).ended).stderr, /node_diffusion/, 'which other commands load')
})

t.test('usage errors print one line and end with status 2', async (t) => {
  const { code, stdout, stderr } = await start(['x', '--steps', '0']).ended
  t.same([code, stdout.length], [2, 0])
  t.match(stderr, /^error: .*\n$/)
})

t.test('the same seed gives the same image', async (t) => {
  const dir = t.testdir()
  const args = ['noto pizza', '--seed', '1', '--steps', '3', '--json']
  const first = await start([...args, '-o', 'a.png'], dir).ended
  t.equal(first.stderr, '')
  t.equal(first.code, 0)
  t.match(JSON.parse(first.stdout.toString()), { files: ['a.png'], seed: 1 })
  const file = readFileSync(join(dir, 'a.png'))
  t.match(await sharp(file).metadata(), { width: 64, height: 64, format: 'png' })
  t.match(
    readPngTexts(file).get('parameters'),
    /^noto pizza\nSteps: 3, Sampler: .*, Seed: 1, Size: 64x64, Model: emoji-64/,
  )
  const { child, ended } = start(['-', '--seed', '1', '--steps', '3', '-o', '-'], dir)
  child.stdin!.end('noto pizza\n')
  const piped = await ended
  t.ok(file.equals(piped.stdout), 'also through pipes')
  t.match(piped.stderr, /step 3\/3/)
})

t.test('--eta and --preview', async (t) => {
  const dir = t.testdir()
  const args = ['noto pizza', '--seed', '1', '--steps', '3', '--eta', '1', '--preview', '-o', 'a.png']
  const { code, stderr } = await start(args, dir).ended
  t.equal(code, 0, stderr)
  t.same(readdirSync(dir).sort(), ['a.png', 'preview.png'])
  t.match(readPngTexts(readFileSync(join(dir, 'a.png'))).get('parameters'), /Sampler: DDIM.*Eta: 1/)
  const useless = await start(['noto pizza', '--eta', '1', '--scheduler', 'euler'], dir).ended
  t.equal(useless.code, 2)
  t.match(useless.stderr, /^error: --eta has no effect on euler\n$/m)
})

t.test('--tiny-vae', async (t) => {
  const dir = t.testdir()
  const tiny = [
    '--tiny-vae',
    resolve('test/fixtures/tiny-vae/three-levels'),
    '--decoder',
    'tiny',
    '--preview',
  ]
  const args = ['noto pizza', '--seed', '1', '--steps', '3', '-o', 'a.png', ...tiny]
  const { code, stderr } = await start(args, dir).ended
  t.equal(code, 0, stderr)
  for (const file of ['a.png', 'preview.png'])
    t.match(await sharp(join(dir, file)).metadata(), { width: 64, height: 64 }, file)
})

t.test('Ctrl-C ends with status 130 and leaves no file', async (t) => {
  const dir = t.testdir()
  const { child, ended } = start(['noto pizza', '--steps', '1000', '-o', 'a.png'], dir)
  await printed(child, 'Encoding the prompt')
  child.kill('SIGINT')
  const { code, stderr } = await ended
  t.equal(code, 130)
  t.match(stderr, /Interrupted\n$/)
  t.same(readdirSync(dir), [])

  const reading = start(['-'], dir)
  reading.child.stdin!.write('a')
  await handlesSignals(reading.child)
  reading.child.kill('SIGINT')
  t.equal((await reading.ended).code, 130, 'while it waits for a prompt')
})

t.test('info about the bundled model', async (t) => {
  const { code, stdout } = await start(['info', resolve('models/emoji-64'), '--size', '64', '--json']).ended
  t.equal(code, 0)
  const report = JSON.parse(stdout.toString()) as {
    components: { name: string }[]
    memory: { total: number }
  }
  t.same(
    report.components.map(({ name }) => name),
    ['text encoder', 'unet', 'vae'],
  )
  t.ok(report.memory.total > 20e6)
})

t.test('a closed pipe is not an error', async (t) => {
  const { child, ended } = start(['schedulers'])
  child.stdout!.destroy()
  const { code, stderr } = await ended
  t.same([code, stderr], [0, ''])
})
