/** Streams that are closed, full, endless or slow, output names that are taken, and text that a terminal would obey. */
import { spawn, type StdioOptions } from 'node:child_process'
import {
  closeSync,
  cpSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import t from 'tap'
import {
  safetensorsBytes,
  stringPair,
  writeGguf,
  writeJson,
  writeSafetensors,
} from '../model-files/helpers.js'
import { call, inFolder } from './fake.js'

const PROGRAM = fileURLToPath(new URL('../../lib/cli/main.js', import.meta.url))
const picture = ['noto pizza', '--steps', '1', '--seed', '1']

/** Runs the program; `close` names streams whose reader leaves at once. */
async function program(
  args: string[],
  cwd: string,
  stdio: StdioOptions = 'pipe',
  close: ('stdout' | 'stderr')[] = [],
) {
  const child = spawn(process.execPath, [PROGRAM, ...args], { cwd, stdio })
  const read = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    if (close.includes(name)) child[name]?.destroy()
    else child[name]?.on('data', (chunk: Buffer) => (read[name] += chunk.toString()))
  }
  const code = await new Promise<number | null>((done) => child.on('close', done))
  return { code, ...read }
}

t.test('a closed or full standard error does not end the program', async (t) => {
  const dir = t.testdir()
  t.equal((await program([...picture, '-o', 'a.png'], dir, 'pipe', ['stderr'])).code, 0)
  const full = openSync('/dev/full', 'w')
  t.equal((await program([...picture, '-o', 'b.png'], dir, ['ignore', 'ignore', full])).code, 0)
  closeSync(full)
  t.same(readdirSync(dir), ['a.png', 'b.png'])
  const model = resolve('models/emoji-64')
  t.equal(
    (await program(['quantize', model, 'c.gguf', '-t', 'q8_0'], dir, 'pipe', ['stdout', 'stderr'])).code,
    0,
  )
  t.ok(statSync(join(dir, 'c.gguf')).size > 1e6)
})

t.test('a closed or full standard output', async (t) => {
  const dir = t.testdir()
  t.equal(
    (await program([...picture, '-o', 'a.png'], dir, 'pipe', ['stdout'])).code,
    0,
    'the file is written',
  )
  const image = await program([...picture, '-o', '-'], dir, 'pipe', ['stdout'])
  t.match(image, {
    code: 1,
    stderr: /error: Cannot write to standard output: its reader has closed it \(EPIPE\)\n$/,
  })
  for (const args of [
    [...picture, '-o', '-'],
    [...picture, '-o', 'b.png'],
    ['schedulers'],
    ['--help'],
    ['--version'],
  ]) {
    const full = openSync('/dev/full', 'w')
    const { code, stderr } = await program(args, dir, ['ignore', full, 'pipe'])
    closeSync(full)
    t.equal(code, 1, args.join(' '))
    t.match(stderr, /error: Cannot write to standard output: no space left on the device \(ENOSPC\)\n$/)
  }
  t.same(readdirSync(dir), ['a.png', 'b.png'])
})

t.test('a file that cannot be written to its end leaves nothing', async (t) => {
  const dir = t.testdir()
  const model = resolve('models/emoji-64')
  for (const [args, name] of [
    [[...picture, '--size', '256', '-o', 'a.png'], 'a.png'],
    [['quantize', model, 'a.gguf', '-t', 'q8_0'], 'a.gguf'],
  ] as const) {
    // A limit of 16 KB for each file, which the system reports as it reports a full disk. tap's module would let the
    // signal that comes with it end the program.
    const child = spawn(
      'sh',
      ['-c', 'ulimit -f 32; exec env -u NODE_OPTIONS "$@"', 'sh', process.execPath, PROGRAM, ...args],
      {
        cwd: dir,
      },
    )
    let stderr = ''
    child.stdout.resume()
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
    t.equal(await new Promise((done) => child.on('close', done)), 1)
    t.match(stderr, new RegExp(`error: Cannot write ${name}: the file is larger than .* \\(EFBIG\\)\n$`))
    t.same(readdirSync(dir), [])
  }
})

t.test('Ctrl-C while nobody reads the image', async (t) => {
  // More than a pipe holds.
  const args = ['noto pizza', '--steps', '1', '--size', '512', '-o', '-']
  const child = spawn(process.execPath, [PROGRAM, ...args], { cwd: t.testdir(), stdio: 'pipe' })
  await new Promise<void>((done) =>
    child.stderr.on('data', (chunk: Buffer) => chunk.includes('Decoding') && done()),
  )
  await sleep(2000)
  child.kill('SIGINT')
  t.equal(await new Promise((done) => child.on('exit', done)), 130)
})

t.test('an endless standard input is not read to its end', async (t) => {
  const child = spawn(process.execPath, [PROGRAM, '-'], { cwd: t.testdir(), stdio: 'pipe' })
  let [sent, stderr] = [0, '']
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  const ended = new Promise((done) => child.on('close', done))
  child.stdin.on('error', () => {})
  const chunk = Buffer.alloc(65536, 'a')
  const feed = () => {
    while (!child.stdin.destroyed && child.stdin.write(chunk)) sent += chunk.length
  }
  child.stdin.on('drain', feed)
  feed()
  t.equal(await ended, 2)
  t.match(stderr, /^error: expected a prompt of at most 8192 characters on standard input\n$/)
  t.ok(sent < 2 << 20, `${sent} bytes were read`)
})

t.test('a prompt of the greatest length', async (t) => {
  inFolder(t)
  const prompt = '猫'.repeat(8192)
  t.equal((await call(['-', '-q'], { stdin: `${prompt}\n` })).calls.generate[0].prompt, prompt)
  t.match(await call(['-'], { stdin: `${prompt}x` }), { code: 2, stderr: /at most 8192 characters/ })
})

t.test('programs that choose the same name at the same time', async (t) => {
  const dir = inFolder(t)
  const runs = await Promise.all(Array.from({ length: 12 }, () => call(['x', '--seed', '5'])))
  const names = runs.map(({ stdout }) => stdout.trim())
  t.equal(new Set(names).size, 12, names.join(' '))
  t.same(readdirSync(dir).sort(), names.sort())
})

t.test('what is at the output path stays what it is', async (t) => {
  const dir = inFolder(t)
  writeFileSync('private.png', 'old', { mode: 0o600 })
  symlinkSync('private.png', 'link.png')
  t.equal((await call(['x', '-o', 'link.png'])).code, 0)
  t.equal(statSync('private.png').mode & 0o777, 0o600)
  t.equal((await sharp(readFileSync('private.png')).metadata()).format, 'png')
  t.match(await call(['x', '-o', '/dev/null']), { code: 0, stdout: '/dev/null\n' }, 'needs no extension')
  t.ok(statSync('/dev/null').isCharacterDevice())
  t.equal((await call(['x', '-o', '/dev/stdout'])).bytes.subarray(1, 4).toString(), 'PNG')
  t.same(readdirSync(dir).sort(), ['link.png', 'private.png'])
})

t.test('output paths are checked before the model is loaded', async (t) => {
  inFolder(t)
  mkdirSync('folder.png')
  const long = 'x'.repeat(248)
  for (const [args, message] of [
    [['-o', `${'猫'.repeat(86)}.png`], /the name is too long \(ENAMETOOLONG\)/],
    [['-o', `${long}.png`, '-n', '100'], /the name is too long/],
    [['-o', 'none/a.png'], /there is no folder none/],
    [['--preview', 'none/p.png'], /Cannot write none\/p\.png: there is no folder none \(ENOENT\)/],
    [['--preview', 'folder.png'], /it is a folder/],
  ] as [string[], RegExp][]) {
    const { code, stderr, calls } = await call(['x', ...args])
    t.ok(code > 0, args.join(' '))
    t.match(stderr, message)
    t.equal(calls.load.length, 0)
  }
})

t.test('names made from prompts without spaces', async (t) => {
  inFolder(t)
  const { stdout } = await call(['夜明けの灯台を描いた油絵、とても細かい'.repeat(9), '--seed', '5'])
  t.equal(stdout, '夜明けの灯台を描いた油絵-5.png\n')
  t.match((await call(['猫'.repeat(100), '--seed', '5'])).stdout, /^猫{20}-5\.png\n$/)
})

t.test('nothing that a terminal would obey is printed', async (t) => {
  const dir = t.testdir()
  const evil = '\u001b]0;owned\u0007\u009b31m\u202e'
  const model = join(dir, `model${evil}`)
  cpSync('models/emoji-64', model, { recursive: true })
  const index = JSON.parse(readFileSync(join(model, 'model_index.json'), 'utf8')) as Record<string, unknown>
  writeFileSync(join(model, 'model_index.json'), JSON.stringify({ ...index, _class_name: evil }))
  const broken = join(dir, 'broken')
  cpSync('models/emoji-64', broken, { recursive: true })
  writeFileSync(
    join(broken, 'unet', 'config.json'),
    JSON.stringify({ block_out_channels: evil, act_fn: evil }),
  )
  writeFileSync(join(dir, `no-image${evil}.png`), evil)
  // Strings of every kind in files of every format: names of tensors and shards, metadata, tokens, types.
  const strings = ['general.architecture', 'general.name', evil].map((key) => stringPair(key, evil))
  const tensors = {
    [evil]: { shape: [1], type: 1 },
    [`model.diffusion_model.${evil}`]: { shape: [1], type: 1 },
  }
  writeGguf(join(dir, 'evil.gguf'), tensors, { pairs: strings })
  const halves = Object.fromEntries(Object.keys(tensors).map((name) => [name, { shape: [1], type: 'F16' }]))
  writeSafetensors(join(dir, 'evil.safetensors'), halves, { [evil]: evil, modelspec: evil })
  writeFileSync(join(dir, 'type.safetensors'), safetensorsBytes({ [evil]: { dtype: evil } }))
  const sharded = join(dir, 'sharded')
  cpSync('models/emoji-64', sharded, { recursive: true })
  rmSync(join(sharded, 'unet', 'diffusion_pytorch_model.safetensors'))
  writeJson(join(sharded, 'unet', 'diffusion_pytorch_model.safetensors.index.json'), {
    weight_map: { 'conv_in.weight': evil },
  })
  const tokens = join(dir, 'tokens')
  cpSync('models/emoji-64', tokens, { recursive: true })
  writeJson(join(tokens, 'tokenizer', 'vocab.json'), { [evil]: evil })
  const added = join(dir, 'added')
  cpSync('models/emoji-64', added, { recursive: true })
  writeJson(join(added, 'tokenizer', 'added_tokens.json'), { [evil]: 1e9 })
  const cases = [
    [`${evil} cat`, '-m', model, '--steps', '1'],
    ['x', '-m', evil],
    ['x', '-m', broken],
    ['x', '-o', `${evil}.png`, '--steps', '1', '-m', model, '--json'],
    ['x', '-o', `${evil}/a.png`],
    ['x', '-o', `${evil}.gif`],
    ['x', '--init', `${evil}.png`],
    ['x', '--init', `no-image${evil}.png`, '--steps', '1'],
    ['x', '--scheduler', evil],
    ['x', '--seed', evil],
    ['x', '--rng', evil],
    ['x', '--preview', evil],
    ['x', evil],
    [`--${evil}`],
    ['x', '-m', evil, '--verbose'],
    ['info', model],
    ['info', model, '--json'],
    ['info', evil],
    ['info', broken],
    ['quantize', model, `${evil}.gguf`, '-t', 'q8_0', '-r', `${evil}*=f16`],
    ['quantize', model, `${evil}.gguf`, '-t', 'q8_0', '--json'],
    ['quantize', model, `${evil}.gguf`, '-t', evil],
    ['quantize', model, `${evil}.gguf`, '-t', 'q8_0', '-r', evil],
    ['quantize', evil, 'a.gguf', '-t', 'q8_0'],
    ...['evil.gguf', 'evil.safetensors', 'type.safetensors', 'sharded', 'tokens', 'added'].flatMap((name) => [
      ['info', name],
      ['x', '-m', name, '--steps', '1'],
    ]),
    ...['evil.gguf', 'evil.safetensors'].flatMap((name) => [
      ['x', '--lora', name],
      ['x', '--embedding', name],
      ['merge', model, 'out.gguf', '--lora', name, '-v'],
    ]),
  ]
  for (const args of cases) {
    const { code, stdout, stderr } = await program(args, dir)
    t.type(code, 'number')
    // Paths on standard output are for programs; a terminal gets them escaped.
    const text = stderr + stdout.replace(`${evil}.png\n`, '')
    t.notMatch(text, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e]/, JSON.stringify(args))
    t.ok(text.length < 20_000)
  }
  inFolder(t)
  const shown = (await call(['x', '-o', `${evil}.png`], { stdoutTTY: true })).stdout
  t.match(shown, /\\u001b\]0;owned\\u0007\\u009b31m\\u202e\.png\n$/, 'a path on a terminal')
})
