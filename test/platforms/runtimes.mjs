/** What runs JavaScript: versions of Node.js, Bun, Deno, and programs that Node.js is a part of. */
import { chmodSync, copyFileSync, cpSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { checkQuiet, manifest } from './managers.mjs'
import {
  checkSame,
  drawing,
  expect,
  fromRegistry,
  installedProject,
  nodeProgram,
  NotRun,
  project,
  run,
  temporary,
} from './support.mjs'

const env = { DRAW_PNG: '1' }

/** A version of Node.js, of which all load the same addon; `import`, and where it is there, `require()`. */
async function nodeVersion({ tarball, reference }, version, hasRequire) {
  const program = await nodeProgram(version)
  const folder = await installedProject(tarball, {
    'require.cjs': "console.log(require('node-diffusion').cpuInfo().kernel)",
  })
  checkSame(drawing(await run(program, ['draw.mjs'], { cwd: folder, env })), reference)
  if (!hasRequire) return
  const said = await run(program, ['require.cjs'], { cwd: folder, all: true })
  expect(said.trim() === reference.kernel, `require() printed ${said}`)
}

async function bun({ tarball, reference }) {
  const name = `@oven/bun-linux-${process.arch === 'x64' ? 'x64' : 'aarch64'}`
  const program = join(await fromRegistry(`${name}@1`), name, 'bin', 'bun')
  const folder = project({ 'package.json': manifest(tarball) })
  checkQuiet(await run(program, ['install'], { cwd: folder, all: true }))
  checkSame(drawing(await run(program, ['draw.mjs'], { cwd: folder, env })), reference)
}

async function deno({ tarball, reference }) {
  const name = `@deno/linux-${process.arch}-glibc`
  const program = join(await fromRegistry(`${name}@2`), name, 'deno')
  const args = ['run', '--allow-all', '--node-modules-dir=manual', 'draw.mjs']
  const cwd = await installedProject(tarball)
  checkSame(drawing(await run(program, args, { cwd, env: { ...env, DENO_NO_UPDATE_CHECK: '1' } })), reference)
}

/** A program that Node carries within itself: the addon and the models lie beside it. */
async function singleExecutable({ tarball, reference }) {
  const modules = await fromRegistry('esbuild@0.28', 'postject@1.0.0-alpha.6')
  const folder = await installedProject(tarball)
  const config = { main: 'bundle.cjs', output: 'program.blob', disableExperimentalSEAWarning: true }
  writeFileSync(join(folder, 'sea.json'), JSON.stringify(config))
  const bundle = ['draw.mjs', '--bundle', '--platform=node', '--format=cjs', '--external:sharp']
  await run(
    process.execPath,
    [
      join(modules, 'esbuild', 'bin', 'esbuild'),
      ...bundle,
      '--outfile=bundle.cjs',
      '--log-override:empty-import-meta=silent',
    ],
    { cwd: folder },
  )
  await run(process.execPath, ['--experimental-sea-config', 'sea.json'], { cwd: folder })
  const away = temporary('sea')
  const program = join(away, 'program')
  copyFileSync(process.execPath, program)
  chmodSync(program, 0o755)
  await run(process.execPath, [
    join(modules, 'postject', 'dist', 'cli.js'),
    ...[program, 'NODE_SEA_BLOB', join(folder, 'program.blob')],
    ...['--sentinel-fuse', 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2'],
  ])
  for (const name of ['prebuilds', 'models'])
    cpSync(join(folder, 'node_modules', 'node-diffusion', name), join(away, name), { recursive: true })
  checkSame(drawing(await run(program, [], { cwd: away })), reference)
}

export function runtimeChecks(context) {
  return [
    // The oldest that is supported has no require() of ES modules.
    { name: 'Node.js 20.10', run: () => nodeVersion(context, '20.10', false) },
    ...['20', '22', '24', '26'].map((version) => ({
      name: `Node.js ${version}`,
      run: () => nodeVersion(context, version, true),
    })),
    { name: 'Bun', run: () => bun(context) },
    { name: 'Deno', run: () => deno(context) },
    { name: 'a single executable application', run: () => singleExecutable(context) },
    {
      name: 'Electron',
      run() {
        throw new NotRun('its program is not in the registry; see docs/install.md for its rules')
      },
    },
  ]
}
