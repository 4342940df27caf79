/** The contents of the npm package, and errors if the addon is missing. */
import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import t from 'tap'
import * as api from '../../lib/index.js'
import { packageRoot } from '../../lib/package-root.js'

const root = packageRoot()
const description = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

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

t.test('files', async (t) => {
  const packed = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
    cwd: root,
    encoding: 'utf8',
  })
  const [{ files }] = JSON.parse(packed.slice(packed.indexOf('['))) as [
    { files: { path: string; size: number }[] },
  ]
  const paths = files.map(({ path }) => path)
  for (const path of [
    'README.md',
    'LICENSE',
    'NOTICE.md',
    'CMakeLists.txt',
    'scripts/install.mjs',
    'binding/addon.cpp',
  ]) {
    t.ok(paths.includes(path), path)
  }
  for (const model of ['emoji-64/unet', 'emoji-64-vq'])
    t.ok(paths.includes(`models/${model}/diffusion_pytorch_model.safetensors`), model)
  t.ok(paths.includes('models/emoji-64/LICENSES.md'))
  t.notOk(
    paths.some((path) => /^(test|bench|tools|node_modules|build)\//.test(path)),
    'no development files',
  )
  t.ok(files.reduce((sum, { size }) => sum + size, 0) < 30e6, 'below 30 MB')
  for (const script of [
    'install',
    'prepare',
    'test',
    'prebuild',
    'bench',
    'format',
    'format:check',
    'docs',
  ]) {
    t.ok(description.scripts[script], script)
  }
})

t.test('without an addon', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'nd-'))
  const lib = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'lib')
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
  t.match(stdout, /Possible solutions:\n- Build it: npm rebuild node-diffusion/)
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
