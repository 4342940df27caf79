/** Models from the Hugging Face Hub: a local server stands for it. */
import { existsSync, lstatSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { run } from '../../lib/cli/run.js'
import { library } from '../../lib/cli/engine.js'
import { PassThrough, Readable } from 'node:stream'
import {
  bundledModelPath,
  cachedModels,
  DiffusionPipeline,
  openModel,
  pullModel,
  type PullProgress,
} from '../../lib/index.js'
import { parseReference } from '../../lib/hub/reference.js'
import { Selection } from '../../lib/hub/selection.js'
import { wellKnownModels } from '../../lib/hub/index.js'
import { commitOf, startHub, type Repository } from './server.js'

const random = (bytes: number, seed = 1) => {
  const out = Buffer.alloc(bytes)
  let state = seed
  for (let i = 0; i < bytes; i++) out[i] = (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) >>> 24
  return out
}

/** The bundled model as a repository, and what repositories hold besides. */
function repository(): Repository {
  const root = bundledModelPath()
  const files: Record<string, Buffer> = {}
  for (const name of readdirSync(root, { recursive: true }) as string[])
    if (statSync(join(root, name)).isFile() && !name.startsWith('licenses'))
      files[name.replaceAll('\\', '/')] = readFileSync(join(root, name))
  const unet = files['unet/diffusion_pytorch_model.safetensors']
  files['unet/diffusion_pytorch_model.fp16.safetensors'] = unet
  files['unet/diffusion_pytorch_model.safetensors'] = random(8192)
  files['unet/diffusion_pytorch_model.bin'] = random(8192)
  files['unet/openvino_model.bin'] = random(8192)
  files['safety_checker/model.safetensors'] = random(8192)
  files['unused_folder/model.safetensors'] = random(8192)
  files['model.ckpt'] = random(8192)
  files['README.md'] = Buffer.from('# A model')
  return { files, licence: 'mit' }
}

const rejects = (test: Test, promise: Promise<unknown>, code: string, message: RegExp) =>
  test.rejects(promise, { name: 'DiffusionError', code, message })

t.test('a pipeline: its files, once, in the shared cache', async (t) => {
  const hub = await startHub(t, { 'owner/model': repository() })
  const seen: PullProgress[] = []
  const path = await pullModel('hf:owner/model', { onProgress: (progress) => seen.push({ ...progress }) })
  const commit = commitOf('owner/model', 'main')
  const root = join(hub.home, 'hub', 'models--owner--model')
  t.equal(path, join(root, 'snapshots', commit))
  t.equal(readFileSync(join(root, 'refs', 'main'), 'utf8'), commit)
  const names = (readdirSync(path, { recursive: true }) as string[]).filter((name) =>
    statSync(join(path, name)).isFile(),
  )
  t.ok(names.includes(join('unet', 'diffusion_pytorch_model.fp16.safetensors')))
  for (const unwanted of [
    'README',
    'safety',
    'unused',
    '.bin',
    'model.ckpt',
    'unet/diffusion_pytorch_model.safetensors',
  ])
    t.notOk(
      names.some((name) => name.includes(unwanted)),
      unwanted,
    )
  const weights = join(path, 'unet', 'diffusion_pytorch_model.fp16.safetensors')
  t.ok(lstatSync(weights).isSymbolicLink())
  t.match(readlinkSync(weights), /^\.\.\/\.\.\/\.\.\/blobs\/[0-9a-f]{64}$/)
  t.notOk(readdirSync(join(root, 'blobs')).some((name) => name.endsWith('.incomplete')))

  t.match(seen[0], { repository: 'owner/model', licence: 'mit', file: '' })
  t.ok(seen[0].done < seen[0].total)
  t.ok(
    seen.every(({ done }, i) => i === 0 || done >= seen[i - 1].done),
    'progress only grows',
  )
  t.match(seen.at(-1), { done: seen[0].total, total: seen[0].total, file: '' })

  const sent = hub.sent
  t.equal(await pullModel('owner/model'), path)
  t.equal(hub.sent, sent, 'nothing is downloaded twice')
  await using pipe = await DiffusionPipeline.load('hf:owner/model')
  const { images } = await pipe.generate({ prompt: 'a cat', steps: 1, seed: 1 })
  t.equal(images.length, 1)
  t.equal((await openModel(root)).path, path, "the repository's folder in the cache is a model, too")

  t.match(await cachedModels(), [
    { repository: 'owner/model', commit, revisions: ['main'], path, bytes: seen[0].total },
  ])
})

t.test('one file, one part, revisions', async (t) => {
  const files = {
    'a.safetensors': random(5000),
    'b.ckpt': random(4100),
    'deep/b.gguf': random(6000),
    'c.txt': Buffer.from('c'),
  }
  const other = { 'a.safetensors': random(5000, 9) }
  const hub = await startHub(t, {
    'owner/files': { files, revisions: { 'feature/x': other } },
    'owner/single': { files: { 'only.gguf': random(4500), 'README.md': Buffer.from('x') } },
    'owner/part': {
      files: { 'config.json': Buffer.from('{}'), 'model.safetensors': random(4500), 'x.onnx': random(9) },
    },
    'owner/empty': { files: { 'README.md': Buffer.from('x') } },
  })
  const content = async (reference: string) => readFileSync(await pullModel(reference))
  t.same(await content('hf:owner/files:a.safetensors'), files['a.safetensors'])
  t.same(await content('hf:owner/files:deep/b.gguf'), files['deep/b.gguf'])
  t.same(await content('hf:owner/files@feature/x:a.safetensors'), other['a.safetensors'])
  t.same(
    await content(`hf:owner/files@${commitOf('owner/files', 'main')}:a.safetensors`),
    files['a.safetensors'],
  )
  t.match(await pullModel('hf:owner/single'), /snapshots/)
  const part = await pullModel('hf:owner/part')
  t.same(readdirSync(part).sort(), ['config.json', 'model.safetensors'])
  await rejects(
    t,
    pullModel('hf:owner/files'),
    'MODEL_NOT_FOUND',
    /holds several models. Name a file: .*hf:owner\/files:deep\/b.gguf/,
  )
  await rejects(
    t,
    pullModel('hf:owner/empty'),
    'MODEL_NOT_FOUND',
    /holds no model that node-diffusion knows$/,
  )
  await rejects(
    t,
    pullModel('hf:owner/files:none.gguf'),
    'MODEL_NOT_FOUND',
    /has no file none.gguf. Name a file: hf:owner\/files:a.safetensors, hf:owner\/files:b.ckpt, hf:owner\/files:deep\/b.gguf/,
  )
  await rejects(t, pullModel('hf:owner/nothing'), 'MODEL_NOT_FOUND', /no such model or revision.*status 404/)
  await rejects(
    t,
    pullModel('hf:owner/files@v9:a.safetensors'),
    'MODEL_NOT_FOUND',
    /no such model or revision/,
  )
  t.ok(hub.requests.length > 0)
})

t.test('an interrupted download goes on where it ended', async (t) => {
  const content = random(1 << 20)
  const hub = await startHub(t, { 'owner/model': { files: { 'a.gguf': content } } })
  hub.cutAfter = 300_000
  t.same(readFileSync(await pullModel('hf:owner/model:a.gguf')), content)
  t.ok(
    hub.requests.some((request) => /bytes=[1-9]\d+-/.test(request)),
    'the second request asks for the rest',
  )
  t.ok(hub.sent < content.length + 300_000, `${hub.sent} bytes were sent`)
})

t.test('two calls for the same file', async (t) => {
  const content = random(500_000)
  const hub = await startHub(t, { 'owner/model': { files: { 'a.gguf': content } } })
  hub.delay = 5
  const paths = await Promise.all([1, 2, 3].map(() => pullModel('hf:owner/model:a.gguf')))
  for (const path of paths) t.same(readFileSync(path), content)
  t.equal(hub.sent, content.length, 'is downloaded once')
})

t.test('an abort keeps what has arrived', async (t) => {
  const content = random(1 << 20)
  const hub = await startHub(t, { 'owner/model': { files: { 'a.gguf': content } } })
  hub.delay = 20
  const abort = new AbortController()
  const reason = new Error('enough')
  const pulling = pullModel('hf:owner/model:a.gguf', {
    signal: abort.signal,
    onProgress: ({ done }) => done > 200_000 && abort.abort(reason),
  })
  await t.rejects(pulling, reason)
  await t.rejects(pullModel('hf:owner/model', { signal: abort.signal }), reason, 'aborted before')
  const blobs = join(hub.home, 'hub', 'models--owner--model', 'blobs')
  const [partial] = readdirSync(blobs)
  t.match(partial, /\.incomplete$/)
  const kept = statSync(join(blobs, partial)).size
  t.ok(kept >= 200_000 && kept < content.length, `${kept} bytes`)
  hub.delay = 0
  hub.sent = 0
  t.same(readFileSync(await pullModel('hf:owner/model:a.gguf')), content)
  t.ok(hub.sent <= content.length - kept, 'only the rest is sent')
  t.same(readdirSync(blobs).length, 1)
})

t.test('checksums', async (t) => {
  const hub = await startHub(t, {
    'owner/model': { files: { 'large.gguf': random(9000), 'small.json': Buffer.from('{}') } },
  })
  const blobs = join(hub.home, 'hub', 'models--owner--model', 'blobs')
  hub.damage = true
  for (const name of ['large.gguf', 'small.json']) {
    await rejects(t, pullModel(`hf:owner/model:${name}`), 'IO', /damaged on its way: its checksum/)
    t.same(readdirSync(blobs), [], 'nothing is left')
  }
  hub.damage = false
  const path = await pullModel('hf:owner/model:large.gguf')
  t.equal(statSync(path).size, 9000)

  // A server that sends the whole file where the rest was asked for.
  const content = random(300_000, 3)
  const other = await startHub(t, { 'owner/model': { files: { 'a.gguf': content } } })
  other.cutAfter = 100_000
  other.ignoreRange = true
  await rejects(t, pullModel('hf:owner/model:a.gguf'), 'IO', /damaged/)
  t.same(readFileSync(await pullModel('hf:owner/model:a.gguf')), content, 'and again from the start')
})

t.test('accounts', async (t) => {
  const hub = await startHub(t, { 'owner/gated': { files: { 'a.gguf': random(5000) }, token: 'hf_secret' } })
  await rejects(
    t,
    pullModel('hf:owner/gated'),
    'MODEL_NOT_FOUND',
    /may ask for an account: accept its licence there and set HF_TOKEN/,
  )
  process.env.HF_TOKEN = 'hf_wrong'
  await rejects(t, pullModel('hf:owner/gated'), 'MODEL_NOT_FOUND', /token in HF_TOKEN does not give access/)
  process.env.HF_TOKEN = 'hf_secret'
  t.ok(existsSync(await pullModel('hf:owner/gated')))
  t.ok(hub.sent >= 5000)
})

t.test('without a network', async (t) => {
  const hub = await startHub(t, {
    'owner/model': { files: { 'a.gguf': random(5000), 'b.gguf': random(5000) } },
  })
  const path = await pullModel('hf:owner/model:a.gguf')
  const requests = hub.requests.length
  process.env.HF_HUB_OFFLINE = '1'
  t.equal(await pullModel('hf:owner/model:a.gguf'), path)
  t.equal(hub.requests.length, requests, 'no request')
  await rejects(t, pullModel('hf:owner/model:b.gguf'), 'MODEL_NOT_FOUND', /not in the cache .*HF_HUB_OFFLINE/)
  await rejects(t, pullModel('hf:other/model'), 'MODEL_NOT_FOUND', /HF_HUB_OFFLINE/)
  delete process.env.HF_HUB_OFFLINE
  await hub.close()
  t.equal(await pullModel('hf:owner/model:a.gguf'), path, 'an unreachable server')
  await rejects(
    t,
    pullModel('hf:other/model'),
    'IO',
    /cannot be downloaded from .*: fetch failed: .*ECONNREFUSED/,
  )
  process.env.HF_ENDPOINT = 'ftp://example.org'
  await rejects(t, pullModel('hf:other/model'), 'IO', /HF_ENDPOINT/)
})

t.test('names from the network stay inside the cache', async (t) => {
  const hub = await startHub(t, {
    'owner/evil': {
      files: {
        '../../../evil.gguf': random(5000),
        '/etc/evil.gguf': random(5000),
        'a\\..\\b.gguf': random(5000),
        'model_index.json': Buffer.from(
          JSON.stringify({ '../..': ['diffusers', 'X'], unet: ['diffusers', 'X'] }),
        ),
        'unet/config.json': Buffer.from('{}'),
      },
    },
  })
  const path = await pullModel('hf:owner/evil')
  t.same(readdirSync(path).sort(), ['model_index.json', 'unet'])
  t.notOk(existsSync(join(hub.home, 'evil.gguf')))
})

t.test('references', (t) => {
  t.same(parseReference('hf:a/b'), { repository: 'a/b', revision: 'main' })
  t.same(parseReference('hf:a/b@v1'), { repository: 'a/b', revision: 'v1' })
  t.same(parseReference('hf:a/b:c/d.gguf'), { repository: 'a/b', revision: 'main', file: 'c/d.gguf' })
  t.same(parseReference('hf:a/b@refs/pr/1:d.gguf'), {
    repository: 'a/b',
    revision: 'refs/pr/1',
    file: 'd.gguf',
  })
  t.same(parseReference('hf:sdxl-turbo'), { repository: 'stabilityai/sdxl-turbo', revision: 'main' })
  const page = 'https://huggingface.co/a/b'
  for (const [address, expected] of [
    [page, { repository: 'a/b', revision: 'main' }],
    [`${page}/tree/v1`, { repository: 'a/b', revision: 'v1' }],
    [`${page}/blob/main/x/y.gguf`, { repository: 'a/b', revision: 'main', file: 'x/y.gguf' }],
    [`${page}/resolve/main/y.gguf?download=true`, { repository: 'a/b', revision: 'main', file: 'y.gguf' }],
  ] as const)
    t.same(parseReference(address), expected)
  t.throws(() => parseReference('https://huggingface.co/a'), { code: 'MODEL_NOT_FOUND' })
  for (const { name } of wellKnownModels)
    t.match(parseReference(`hf:${name}`).repository, /^[\w.-]+\/[\w.-]+$/)
  // prettier-ignore
  const wrong = ['hf:', 'hf:a', 'hf:a/b/c', 'hf:../b', 'hf:a/..', 'hf:a/b@', 'hf:a/b:', 'hf:a/b:../c', 'hf:a/b@../c', 'hf:a/b:/c', 'hf:/b', 'hf:a b/c', 'hf:a/b:c\0', 'hf:a--b/c', `hf:${'a'.repeat(2000)}/b`]
  for (const reference of wrong)
    t.throws(() => parseReference(reference), { code: 'MODEL_NOT_FOUND' }, reference.slice(0, 20))
  t.throws(() => parseReference('hf:sdxl-turb'), { message: /did you mean hf:sdxl-turbo/ })
  t.end()
})

t.test('which files of a repository', (t) => {
  const select = (names: string[], parts: string[] | undefined, variant?: string) =>
    new Selection(
      'a/b',
      names.map((path) => ({ path, bytes: 1, checksum: '' })),
      variant,
    )
      .all(parts)
      .map(({ path }) => path)
      .sort()
  const unet = (name: string) => `unet/diffusion_pytorch_model${name}`
  const shards = ['-00001-of-00002.safetensors', '-00002-of-00002.safetensors'].map(unet)
  const small = ['.fp16-00001-of-00002.safetensors', '.fp16-00002-of-00002.safetensors'].map(unet)
  const [full, half] = ['.safetensors.index.json', '.safetensors.index.fp16.json'].map(unet)
  const all = ['model_index.json', 'unet/config.json', full, half, ...shards, ...small, unet('.bin')]
  const common = ['model_index.json', 'unet/config.json']
  t.same(select(all, ['unet']), [...common, half, ...small].sort(), 'fp16 by default')
  t.same(select(all, ['unet'], 'none'), [...common, full, ...shards].sort(), 'another variant')
  t.same(
    select(
      ['model_index.json', 'tokenizer/vocab.json', 'tokenizer/merges.txt', 'scheduler/scheduler_config.json'],
      ['tokenizer', 'scheduler', 'safety_checker'],
    ).length,
    4,
  )
  t.end()
})

t.test('the command line', async (t) => {
  await startHub(t, { 'owner/model': repository() })
  const call = async (...args: string[]) => {
    const [stdout, stderr] = [new PassThrough(), new PassThrough()]
    const text: string[] = []
    stdout.on('data', (chunk: Buffer) => text.push(chunk.toString()))
    const told: string[] = []
    stderr.on('data', (chunk: Buffer) => told.push(chunk.toString()))
    const signal = new AbortController().signal
    const terminal = { stdin: Readable.from([]), stdout, stderr, signal }
    const code = await run(args, '1.0.0', terminal, library)
    return { code, stdout: text.join(''), stderr: told.join('') }
  }
  const none = await call('ls')
  t.match(none.stdout, /Downloaded:\nnone\n\nWell-known:\n {2}sd15 +Stable Diffusion 1.5/)
  const pulled = await call('pull', 'owner/model')
  t.match(pulled, { code: 0, stdout: /snapshots\/[0-9a-f]{40}\n$/ })
  t.match(pulled.stderr, /owner\/model: licence mit, [\d.]+ MiB to download/)
  t.match((await call('ls')).stdout, /Downloaded:\n {2}hf:owner\/model +[\d.]+ MiB/)
  t.match(JSON.parse((await call('ls', '--json')).stdout), { cached: [{ repository: 'owner/model' }] })
  const info = await call('info', 'hf:owner/model', '--json')
  t.match(JSON.parse(info.stdout), { format: 'diffusers' })
  t.match(await call('pull', 'owner/none'), {
    code: 1,
    stderr: /error: owner\/none: the Hub has no such model/,
  })
})

t.test('well-known models: licence and size before the first weights', async (t) => {
  const weights = { 'diffusion_pytorch_model.safetensors': random(9000), 'config.json': Buffer.from('{}') }
  const index = Buffer.from(JSON.stringify({ unet: ['diffusers', 'UNet2DConditionModel'] }))
  const folder = {
    'model_index.json': index,
    ...Object.fromEntries(Object.entries(weights).map(([name, bytes]) => [`unet/${name}`, bytes])),
  }
  const repositories = wellKnownModels.map(({ name, repository, file }): [string, Repository] => [
    repository,
    {
      files: file !== undefined ? { [file]: random(9000) } : /^tae/.test(name) ? weights : folder,
      licence: `licence-of-${name}`,
    },
  ])
  const hub = await startHub(t, Object.fromEntries(repositories))
  for (const { name, repository } of wellKnownModels) {
    hub.requests.length = 0
    let told = ''
    const stderr = new PassThrough()
    stderr.on('data', (chunk: Buffer) => {
      if (told === '')
        t.notOk(
          hub.requests.some((line) => /^GET \S*safetensors/.test(line)),
          'nothing has come yet',
        )
      told += chunk.toString()
    })
    const signal = new AbortController().signal
    const terminal = { stdin: Readable.from([]), stdout: new PassThrough(), stderr, signal }
    t.equal(await run(['pull', name], '1.0.0', terminal, library), 0, name)
    t.match(told, `${repository}: licence licence-of-${name}, 9 KiB to download`, name)
    t.ok(
      hub.requests.some((line) => /^GET \S*safetensors/.test(line)),
      'then the weights come',
    )
  }
})

t.test('options', async (t) => {
  await t.rejects(pullModel(7 as unknown as string), TypeError)
  await t.rejects(
    pullModel('hf:a/b', { varian: 'x' } as object),
    /Unknown option varian, did you mean variant/,
  )
  await t.rejects(pullModel('hf:a/b', { onProgress: 7 } as object), TypeError)
})
