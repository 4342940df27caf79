/**
 * Files that change between opening and reading, and paths that are not regular files, give errors and never a crash.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { AutoencoderKL, DiffusionPipeline, bundledModelPath } from '../../lib/index.js'
import { native } from '../../lib/native.js'
import { openModel } from '../../lib/models/index.js'
import { quick } from '../pipeline/support.js'

function folder(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'node-diffusion-hostile-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** Opens a copy of the bundled model. Returns the file of its UNet, and a function that loads the UNet. */
async function opened(t: Test) {
  const path = join(folder(t), 'model')
  cpSync(bundledModelPath(), path, { recursive: true })
  const { unet } = await openModel(path)
  const { config, source } = unet!
  return { file: source.files[0], load: () => native().loadUnet(config, source) }
}

t.test('a model that changes after it has been opened', async (t) => {
  const cut = await opened(t)
  truncateSync(cut.file, statSync(cut.file).size >> 1)
  await t.rejects(cut.load(), { code: 'IO', message: /after its header was read, from \d+ to \d+ bytes/ })

  const emptied = await opened(t)
  truncateSync(emptied.file, 0)
  await t.rejects(emptied.load(), { code: 'IO', message: /expected a file that is not empty/ })

  const deleted = await opened(t)
  rmSync(deleted.file)
  await t.rejects(deleted.load(), { code: 'IO', message: /No such file/ })

  const replaced = await opened(t)
  rmSync(replaced.file)
  mkdirSync(replaced.file)
  await t.rejects(replaced.load(), { code: 'IO', message: /expected a file that is not empty/ })
})

t.test('a file that is truncated while it is loaded', async (t) => {
  // Reading a mapped file beyond its new end would kill the process (SIGBUS). Where the file is truncated is left to
  // chance; test/cpp tests this case by itself.
  const alone = await opened(t)
  const whole = await alone.load()
  const { weightBytes } = whole
  await whole.dispose()
  let refused = 0
  for (let i = 0; i < 12; i++) {
    const { file, load } = await opened(t)
    const size = statSync(file).size
    const loading = load().then(
      (model) => ({ model }),
      (error: unknown) => ({ error }),
    )
    if (i > 0) await new Promise((resolve) => setTimeout(resolve, i))
    truncateSync(file, size >> 2)
    const outcome = await loading
    if ('error' in outcome) {
      refused++
      t.match(outcome.error, { code: /^(IO|MODEL_FORMAT)$/, message: /byte/ })
    } else {
      t.equal(outcome.model.weightBytes, weightBytes, 'it was loaded before it was truncated')
      await outcome.model.dispose()
    }
  }
  t.ok(refused > 0, `${refused} of 12 were refused`)
})

t.test('paths that are not regular files', { skip: process.platform === 'win32' }, async (t) => {
  const here = folder(t)
  const [pipe, empty, text] = ['pipe', 'empty.safetensors', 'text.txt'].map((name) => join(here, name))
  execFileSync('mkfifo', [pipe])
  writeFileSync(empty, '')
  writeFileSync(text, 'not a model\n')
  const wrong = [
    [pipe, /expected a regular file/],
    ['/dev/zero', /expected a regular file/],
    [empty, /found an empty one/],
    [text, /begins with "not a mo"/],
    [here, /expected a diffusers folder/],
  ] as const
  for (const [path, message] of wrong) {
    await t.rejects(DiffusionPipeline.load(path), { code: 'MODEL_FORMAT', message })
    await t.rejects(AutoencoderKL.load(path), { code: 'MODEL_FORMAT', message })
  }
  await using model = await DiffusionPipeline.load()
  for (const image of [pipe, '/dev/zero', here]) {
    await t.rejects(model.generate({ ...quick, image }), { code: 'IO', message: /it is not a file/ })
  }
  await t.rejects(model.generate({ ...quick, image: text }), { code: 'IO', message: /unsupported/ })
  t.equal((await model.generate(quick)).images.length, 1, 'the pipeline stays usable')
})
