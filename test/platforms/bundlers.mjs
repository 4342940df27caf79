/** Bundlers, with the package outside of the bundle and inside, and programs that trace the files of a server. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { basename, dirname, join } from 'node:path'
import {
  addFromRegistry,
  checkSame,
  drawing,
  expect,
  fromRegistry,
  installedProject,
  NotRun,
  project,
  run,
  temporary,
} from './support.mjs'

const node = process.execPath

/**
 * A bundle with the package inside, on another machine: without node_modules, it says what it needs, and that is all that it
 * needs.
 */
async function checkMoved(folder, output, reference) {
  const modules = join(folder, 'node_modules')
  renameSync(modules, join(folder, 'gone'))
  const cwd = temporary('away')
  cpSync(dirname(join(folder, output)), cwd, { recursive: true })
  const draw = () => run(node, [basename(output)], { cwd })
  const said = await draw().catch((error) => error.message)
  expect(said.includes('copy its folders prebuilds and models'), `without its files it printed: ${said}`)
  for (const name of ['prebuilds', 'models'])
    cpSync(join(folder, 'gone', 'node-diffusion', name), join(cwd, name), { recursive: true })
  checkSame(drawing(await draw()), reference)
}

/** Bundles draw.mjs by `bundle`, and runs the result. `inside`: so is the package. */
async function bundled({ tarball, reference }, packages, bundle, inside) {
  const modules = await fromRegistry(...packages)
  const folder = await installedProject(tarball)
  const output = await bundle(modules, folder)
  checkSame(drawing(await run(node, [join(folder, output)], { cwd: folder })), reference)
  if (inside) await checkMoved(folder, output, reference)
}

const esbuild = (format, options) => async (modules, folder) => {
  const output = `out/draw.${format === 'cjs' ? 'cjs' : 'mjs'}`
  const args = ['draw.mjs', '--bundle', '--platform=node', `--format=${format}`, '--external:sharp']
  const program = join(modules, 'esbuild', 'bin', 'esbuild')
  await run(node, [program, ...args, ...options, `--outfile=${output}`], { cwd: folder })
  return output
}

const rollup = (external) => async (modules, folder) => {
  const config = `import { nodeResolve } from '${modules}/@rollup/plugin-node-resolve/dist/es/index.js'
import commonjs from '${modules}/@rollup/plugin-commonjs/dist/es/index.js'
import json from '${modules}/@rollup/plugin-json/dist/es/index.js'
export default {
  input: 'draw.mjs',
  external: ${JSON.stringify(external)},
  output: { dir: 'out', format: 'es', entryFileNames: '[name].mjs' },
  plugins: [nodeResolve({ exportConditions: ['node'] }), commonjs(), json()],
}`
  writeFileSync(join(folder, 'rollup.config.mjs'), config)
  await run(node, [join(modules, 'rollup', 'dist', 'bin', 'rollup'), '-c'], { cwd: folder })
  return 'out/draw.mjs'
}

const webpack = (external) => async (modules, folder) => {
  const config = `export default {
  mode: 'production',
  target: 'node20',
  entry: './draw.mjs',
  externals: { '${external}': '${external}' },
  externalsType: 'module',
  experiments: { outputModule: true },
  output: { filename: 'draw.mjs', module: true, path: ${JSON.stringify(join(folder, 'out'))} },
}`
  writeFileSync(join(folder, 'webpack.config.mjs'), config)
  const program = join(modules, 'webpack-cli', 'bin', 'cli.js')
  await run(node, [program, '-c', 'webpack.config.mjs'], { cwd: folder })
  return 'out/draw.mjs'
}

const vite = (ssr) => async (modules, folder) => {
  const config = `export default {
  build: { ssr: 'draw.mjs', outDir: 'out', target: 'node20', rollupOptions: { output: { entryFileNames: '[name].mjs' } } },
  ssr: ${JSON.stringify(ssr)},
}`
  writeFileSync(join(folder, 'vite.config.mjs'), config)
  await run(node, [join(modules, 'vite', 'bin', 'vite.js'), 'build'], { cwd: folder })
  return 'out/draw.mjs'
}

/** What builders for AWS Lambda copy: the files that @vercel/nft finds are enough to draw. */
async function traced({ tarball, reference }) {
  const modules = await fromRegistry('@vercel/nft@1')
  const folder = await installedProject(tarball, {
    'trace.mjs': `import { nodeFileTrace } from '${modules}/@vercel/nft/out/index.js'
const { fileList } = await nodeFileTrace(['draw.mjs'], { base: process.cwd() })
console.log(JSON.stringify([...fileList]))`,
  })
  const files = JSON.parse(await run(node, ['trace.mjs'], { cwd: folder }))
  const copy = project()
  let bytes = 0
  for (const file of files) {
    const content = readFileSync(join(folder, file))
    bytes += content.length
    mkdirSync(dirname(join(copy, file)), { recursive: true })
    writeFileSync(join(copy, file), content)
  }
  checkSame(drawing(await run(node, ['draw.mjs'], { cwd: copy, env: { DRAW_PNG: '1' } })), reference)
  expect(bytes < 250e6, `${bytes} bytes, more than AWS Lambda takes`)
  const addons = files.filter((file) => /node-diffusion.*\.node$/.test(file))
  return `${files.length} files, ${(bytes / 1e6).toFixed(0)} MB, ${addons.length} addons`
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
  const folder = await installedProject(tarball, {
    'next.config.mjs': `export default {
  output: 'standalone',
  outputFileTracingRoot: import.meta.dirname,
  serverExternalPackages: ['node-diffusion'],
}`,
  })
  await addFromRegistry(folder, 'next@16', 'react@19', 'react-dom@19')
  const route = join(folder, 'app', 'picture')
  mkdirSync(route, { recursive: true })
  writeFileSync(
    join(route, 'route.js'),
    `import { picture } from '../../picture.mjs'
export const dynamic = 'force-dynamic'
export const GET = async () => Response.json(await picture())
`,
  )
  const env = { NEXT_TELEMETRY_DISABLED: '1' }
  const program = join(folder, 'node_modules', 'next', 'dist', 'bin', 'next')
  await run(node, [program, 'build'], { cwd: folder, env })
  const copy = temporary('standalone')
  // Links stay relative: what they lead to has to be in the copy.
  cpSync(join(folder, '.next', 'standalone'), copy, { recursive: true, verbatimSymlinks: true })
  const port = await freePort()
  const server = spawn(node, ['server.js'], {
    cwd: copy,
    env: { ...process.env, ...env, PORT: String(port), HOSTNAME: '127.0.0.1', DRAW_PNG: '1' },
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

export function bundlerChecks(context) {
  const rollupPlugins = ['node-resolve', 'commonjs', 'json'].map((name) => `@rollup/plugin-${name}`)
  const packages = {
    esbuild: ['esbuild@0.28'],
    rollup: ['rollup@4', ...rollupPlugins],
    webpack: ['webpack@5', 'webpack-cli@6'],
    Vite: ['vite@8'],
  }
  const external = (name, bundle) => ({
    name: `${name}, external`,
    run: () => bundled(context, packages[name], bundle, false),
  })
  const inside = (name, bundle, format = '') => ({
    name: `${name}, in the bundle${format}`,
    run: () => bundled(context, packages[name], bundle, true),
  })
  const requireInModule =
    "--banner:js=import { createRequire as make } from 'node:module'; const require = make(import.meta.url)"
  return [
    external('esbuild', esbuild('esm', ['--external:node-diffusion'])),
    inside('esbuild', esbuild('esm', [requireInModule])),
    inside('esbuild', esbuild('cjs', []), ', CommonJS'),
    external('rollup', rollup(['node-diffusion'])),
    inside('rollup', rollup(['sharp'])),
    external('webpack', webpack('node-diffusion')),
    {
      ...inside('webpack', webpack('sharp')),
      run() {
        if (!context.complete) throw new NotRun('webpack wants all prebuilds to be there')
        return bundled(context, packages.webpack, webpack('sharp'), true)
      },
    },
    external('Vite', vite({ external: ['node-diffusion'] })),
    inside('Vite', vite({ noExternal: true, external: ['sharp'] })),
    { name: 'Next.js, standalone', run: () => next(context) },
    { name: 'traced, as for AWS Lambda', run: () => traced(context) },
  ]
}
