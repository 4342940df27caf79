/** Package managers, runtimes, bundlers and tracers, each in a project of its own, with the tarball. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { checkSame, drawing, expect, fromRegistry, NotRun, project, run } from './support.mjs'

const node = process.execPath
const bin = (modules, name, path) => join(modules, name, path)
const manifest = (tarball, more = {}) =>
  JSON.stringify({
    name: 'project',
    private: true,
    type: 'module',
    dependencies: { 'node-diffusion': `file:${tarball}` },
    ...more,
  })

async function npm12({ tarball, reference }) {
  const modules = await fromRegistry('npm@12')
  const folder = project({ 'package.json': manifest(tarball) })
  await run(node, [bin(modules, 'npm', 'bin/npm-cli.js'), 'install', '--no-audit', '--no-fund'], {
    cwd: folder,
  })
  checkSame(drawing(await run(node, ['draw.mjs'], { cwd: folder })), reference)
}

/** pnpm 11 needs Node 22. */
async function newerNode() {
  if (Number(process.versions.node.split('.')[0]) >= 22) return process.execPath
  const name = `node-${process.platform}-${process.arch}`
  return join(await fromRegistry(`${name}@22`), name, 'bin', 'node')
}

async function pnpm({ tarball, reference }) {
  const modules = await fromRegistry('pnpm@11')
  const folder = project({ 'package.json': manifest(tarball) })
  const { bin: names } = JSON.parse(readFileSync(join(modules, 'pnpm', 'package.json'), 'utf8'))
  await run(
    await newerNode(),
    [bin(modules, 'pnpm', names.pnpm), 'install', '--store-dir', join(folder, '.store')],
    { cwd: folder },
  )
  checkSame(drawing(await run(node, ['draw.mjs'], { cwd: folder })), reference)
}

async function yarn({ tarball, reference }, linker) {
  const modules = await fromRegistry('@yarnpkg/cli-dist@4')
  const folder = project({
    'package.json': manifest(tarball),
    '.yarnrc.yml': `nodeLinker: ${linker}\nenableTelemetry: false\nenableGlobalCache: false\nnpmRegistryServer: '${(await run('npm', ['config', 'get', 'registry'])).trim()}'\nunsafeHttpWhitelist: ['*']\n`,
    'yarn.lock': '',
  })
  const program = bin(modules, '@yarnpkg/cli-dist', 'bin/yarn.js')
  await run(node, [program, 'install'], {
    cwd: folder,
    env: { CI: '', YARN_ENABLE_IMMUTABLE_INSTALLS: 'false' },
  })
  checkSame(drawing(await run(node, [program, 'node', 'draw.mjs'], { cwd: folder })), reference)
}

async function bun({ tarball, reference }) {
  const modules = await fromRegistry(`@oven/bun-linux-${process.arch === 'x64' ? 'x64' : 'aarch64'}@1`)
  const program = bin(modules, `@oven/bun-linux-${process.arch === 'x64' ? 'x64' : 'aarch64'}`, 'bin/bun')
  const folder = project({ 'package.json': manifest(tarball) })
  await run(program, ['install'], { cwd: folder })
  checkSame(drawing(await run(program, ['draw.mjs'], { cwd: folder })), reference)
}

async function deno({ tarball, reference }) {
  const name = `@deno/linux-${process.arch}-glibc`
  const modules = await fromRegistry(`${name}@2`)
  const folder = project()
  await run('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', tarball], { cwd: folder })
  const output = await run(
    bin(modules, name, 'deno'),
    ['run', '--allow-all', '--node-modules-dir=manual', 'draw.mjs'],
    {
      cwd: folder,
      env: { DENO_NO_UPDATE_CHECK: '1' },
    },
  )
  checkSame(drawing(output), reference)
}

/** Bundles draw.mjs with `bundle`, and runs the result. `inline`: the package is in the bundle, not beside it. */
async function bundled({ tarball, reference }, packages, bundle) {
  const modules = await fromRegistry(...packages)
  const folder = project()
  await run('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline', tarball], {
    cwd: folder,
  })
  const output = join(folder, await bundle(modules, folder))
  checkSame(drawing(await run(node, [output], { cwd: folder })), reference)
}

const esbuild = (options) => async (modules, folder) => {
  const external = ['--external:sharp', ...options]
  await run(
    node,
    [
      bin(modules, 'esbuild', 'bin/esbuild'),
      'draw.mjs',
      '--bundle',
      '--platform=node',
      '--format=esm',
      ...external,
      '--outfile=out/draw.mjs',
    ],
    { cwd: folder },
  )
  return 'out/draw.mjs'
}

const rollup = (external) => async (modules, folder) => {
  const config = `import { nodeResolve } from '${modules}/@rollup/plugin-node-resolve/dist/es/index.js'
import commonjs from '${modules}/@rollup/plugin-commonjs/dist/es/index.js'
import json from '${modules}/@rollup/plugin-json/dist/es/index.js'
export default { input: 'draw.mjs', external: ${external}, output: { dir: 'out', format: 'es', entryFileNames: '[name].mjs' },
  plugins: [nodeResolve({ exportConditions: ['node'] }), commonjs(), json()] }`
  writeFileSync(join(folder, 'rollup.config.mjs'), config)
  await run(node, [bin(modules, 'rollup', 'dist/bin/rollup'), '-c'], { cwd: folder })
  return 'out/draw.mjs'
}

const webpack = (externals) => async (modules, folder) => {
  const config = `export default { mode: 'production', target: 'node20', entry: './draw.mjs', externals: ${externals}, externalsType: 'module',
  experiments: { outputModule: true }, output: { filename: 'draw.mjs', module: true, path: ${JSON.stringify(join(folder, 'out'))} } }`
  writeFileSync(join(folder, 'webpack.config.mjs'), config)
  await run(node, [bin(modules, 'webpack-cli', 'bin/cli.js'), '-c', 'webpack.config.mjs'], { cwd: folder })
  return 'out/draw.mjs'
}

const vite = (external) => async (modules, folder) => {
  const config = `export default { build: { ssr: 'draw.mjs', outDir: 'out', target: 'node20', rollupOptions: { output: { entryFileNames: '[name].mjs' } } }, ssr: { ${external} } }`
  writeFileSync(join(folder, 'vite.config.mjs'), config)
  await run(node, [bin(modules, 'vite', 'bin/vite.js'), 'build'], { cwd: folder })
  return 'out/draw.mjs'
}

/** What builders for AWS Lambda copy: the files that @vercel/nft finds are enough to draw. */
async function traced({ tarball, reference }) {
  const modules = await fromRegistry('@vercel/nft@1')
  const folder = project({
    'trace.mjs': `import { nodeFileTrace } from '${modules}/@vercel/nft/out/index.js'
const { fileList } = await nodeFileTrace(['draw.mjs'], { base: process.cwd() })
console.log(JSON.stringify([...fileList]))`,
  })
  await run('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline', tarball], {
    cwd: folder,
  })
  const files = JSON.parse(await run(node, ['trace.mjs'], { cwd: folder }))
  const copy = project()
  for (const file of files) {
    mkdirSync(dirname(join(copy, file)), { recursive: true })
    writeFileSync(join(copy, file), readFileSync(join(folder, file)))
  }
  checkSame(drawing(await run(node, ['draw.mjs'], { cwd: copy })), reference)
  const bytes = files.reduce((sum, file) => sum + readFileSync(join(folder, file)).length, 0)
  expect(bytes < 250e6, `${bytes} bytes, more than AWS Lambda takes`)
  return `${files.length} files, ${(bytes / 1e6).toFixed(0)} MB, ${files.filter((file) => file.endsWith('.node')).map((file) => relative('node_modules', file)).length} addons`
}

/** A port that nothing listens on. */
async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  return port
}

/** The answer of a server that is starting, within a minute. */
async function answer(url, exited) {
  for (let attempt = 0; attempt < 240 && !exited(); attempt++) {
    try {
      const response = await fetch(url)
      const text = await response.text()
      if (!response.ok) throw new Error(`${url}: ${response.status} ${text.slice(0, 500)}`)
      return text
    } catch (error) {
      if (error.cause?.code !== 'ECONNREFUSED') throw error
      await new Promise((resolve) => setTimeout(resolve, 250))
    }
  }
  throw new Error('the server did not start')
}

/** A route of Next.js draws, in the server that `output: 'standalone'` writes, moved away from its node_modules. */
async function next({ tarball, reference }) {
  const folder = project({
    'next.config.mjs': `export default {
  output: 'standalone', outputFileTracingRoot: import.meta.dirname, serverExternalPackages: ['node-diffusion'],
  outputFileTracingIncludes: { '/picture': ['node_modules/node-diffusion/models/emoji-64/**'] },
}`,
  })
  const packages = [tarball, 'next@16', 'react@19', 'react-dom@19']
  try {
    await run('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', ...packages], { cwd: folder })
  } catch (error) {
    throw new NotRun(`Next.js cannot be installed: ${error.message.split('\n').at(-1)}`)
  }
  const route = join(folder, 'app', 'picture')
  mkdirSync(route, { recursive: true })
  writeFileSync(
    join(route, 'route.js'),
    `import { cpuInfo, DiffusionPipeline } from 'node-diffusion'
export const dynamic = 'force-dynamic'
export async function GET() {
  await using pipe = await DiffusionPipeline.load()
  const { images } = await pipe.generate({ prompt: 'a blue cat and a pizza', seed: 3, steps: 4 })
  return Response.json({ kernel: cpuInfo().kernel, pixels: Buffer.from(images[0].data).toString('base64') })
}
`,
  )
  const env = { NEXT_TELEMETRY_DISABLED: '1' }
  await run(node, [bin(join(folder, 'node_modules'), 'next', 'dist/bin/next'), 'build'], { cwd: folder, env })
  const copy = mkdtempSync(join(tmpdir(), 'nd-standalone-'))
  // Links stay relative: what they lead to has to be in the copy.
  cpSync(join(folder, '.next', 'standalone'), copy, { recursive: true, verbatimSymlinks: true })
  const port = await freePort()
  const server = spawn(node, ['server.js'], {
    cwd: copy,
    env: { ...process.env, ...env, PORT: String(port), HOSTNAME: '127.0.0.1' },
    stdio: 'ignore',
  })
  try {
    const text = await answer(`http://127.0.0.1:${port}/picture`, () => server.exitCode !== null)
    checkSame(drawing(text), reference)
  } finally {
    server.kill()
    if (server.exitCode === null && server.signalCode === null) await once(server, 'exit')
  }
}

/** A program that Node carries within itself: the addon and the model lie beside it. */
async function singleExecutable({ tarball, reference }) {
  const modules = await fromRegistry('esbuild@0.28', 'postject@1.0.0-alpha.6')
  const folder = project({
    'main.cjs': `const { cpuInfo, DiffusionPipeline } = require('node-diffusion')
;(async () => {
  const pipe = await DiffusionPipeline.load()
  const { images } = await pipe.generate({ prompt: 'a blue cat and a pizza', seed: 3, steps: 4 })
  console.log(JSON.stringify({ kernel: cpuInfo().kernel, pixels: Buffer.from(images[0].data).toString('base64') }))
  await pipe.dispose()
})()`,
    'sea.json': '{ "main": "bundle.cjs", "output": "program.blob", "disableExperimentalSEAWarning": true }',
  })
  await run('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline', tarball], {
    cwd: folder,
  })
  const bundle = ['main.cjs', '--bundle', '--platform=node', '--format=cjs', '--external:sharp']
  await run(
    node,
    [
      bin(modules, 'esbuild', 'bin/esbuild'),
      ...bundle,
      '--alias:node-diffusion=./node_modules/node-diffusion/dist/index.js',
      '--outfile=bundle.cjs',
    ],
    { cwd: folder },
  )
  await run(node, ['--experimental-sea-config', 'sea.json'], { cwd: folder })
  const away = mkdtempSync(join(tmpdir(), 'nd-sea-'))
  const program = join(away, 'program')
  copyFileSync(node, program)
  chmodSync(program, 0o755)
  await run(node, [
    bin(modules, 'postject', 'dist/cli.js'),
    ...[program, 'NODE_SEA_BLOB', join(folder, 'program.blob')],
    ...['--sentinel-fuse', 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2'],
  ])
  for (const name of ['prebuilds', 'models'])
    cpSync(join(folder, 'node_modules', 'node-diffusion', name), join(away, name), { recursive: true })
  checkSame(drawing(await run(program, [], { cwd: away })), reference)
}

export function hostChecks(context) {
  const rollupPackages = [
    'rollup@4',
    '@rollup/plugin-node-resolve',
    '@rollup/plugin-commonjs',
    '@rollup/plugin-json',
  ]
  const webpackPackages = ['webpack@5', 'webpack-cli@6']
  return [
    { name: 'npm 12', run: () => npm12(context) },
    { name: 'pnpm 11', run: () => pnpm(context) },
    { name: 'Yarn 4, node-modules', run: () => yarn(context, 'node-modules') },
    { name: "Yarn 4, Plug'n'Play", run: () => yarn(context, 'pnp') },
    { name: 'Bun', run: () => bun(context) },
    { name: 'Deno', run: () => deno(context) },
    {
      name: 'esbuild, external',
      run: () => bundled(context, ['esbuild@0.28'], esbuild(['--external:node-diffusion'])),
    },
    {
      name: 'esbuild, in the bundle',
      run: () =>
        bundled(
          context,
          ['esbuild@0.28'],
          esbuild([
            "--banner:js=import { createRequire as cr } from 'node:module'; const require = cr(import.meta.url)",
          ]),
        ),
    },
    { name: 'rollup, external', run: () => bundled(context, rollupPackages, rollup("['node-diffusion']")) },
    { name: 'rollup, in the bundle', run: () => bundled(context, rollupPackages, rollup("['sharp']")) },
    {
      name: 'webpack, external',
      run: () => bundled(context, webpackPackages, webpack("{ 'node-diffusion': 'node-diffusion' }")),
    },
    {
      name: 'webpack, in the bundle',
      run() {
        if (!context.complete) throw new NotRun('webpack wants all prebuilds to be there')
        return bundled(context, webpackPackages, webpack("{ sharp: 'sharp' }"))
      },
    },
    { name: 'Vite, external', run: () => bundled(context, ['vite@8'], vite("external: ['node-diffusion']")) },
    {
      name: 'Vite, in the bundle',
      run: () => bundled(context, ['vite@8'], vite("noExternal: true, external: ['sharp']")),
    },
    { name: 'Next.js, standalone', run: () => next(context) },
    { name: 'a single executable application', run: () => singleExecutable(context) },
    { name: 'traced, as for AWS Lambda', run: () => traced(context) },
    {
      name: 'Electron',
      run() {
        throw new NotRun(
          'its program is not in the registry; the addon uses Node-API alone, see docs/install.md',
        )
      },
    },
  ]
}
