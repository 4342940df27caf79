/** Package managers, each in a project of its own, with the tarball; they run whatever scripts they would run for a user. */
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { checkSame, drawing, expect, fromRegistry, nodeProgram, project, run, temporary } from './support.mjs'

const node = process.execPath

export const manifest = (tarball) =>
  JSON.stringify({
    ...{ name: 'project', private: true, type: 'module' },
    dependencies: { 'node-diffusion': `file:${tarball}` },
  })

/** That a package manager had nothing to warn of, and no script to run or to block. */
export function checkQuiet(said) {
  const noisy = said.split('\n').filter((one) => /\bwarn|\bscripts?\b|blocked|YN000[4-7]/i.test(one))
  expect(noisy.length === 0, `it printed:\n${said}`)
}

const registry = async () => (await run('npm', ['config', 'get', 'registry'])).trim()

/** npm 12 and pnpm 11 need Node 22. */
const newerNode = () =>
  Number(process.versions.node.split('.')[0]) >= 22 ? process.execPath : nodeProgram(22)

/** As on a fresh machine: no cache, and no program but Node, so no compiler. */
async function npm({ tarball, reference }, version) {
  const program = join(await fromRegistry(`npm@${version}`), 'npm', 'bin', 'npm-cli.js')
  const runner = await newerNode()
  const PATH = temporary('path')
  symlinkSync(runner, join(PATH, 'node'))
  // This user's settings may be ones that npm warns of.
  const settings = join(PATH, 'npmrc')
  writeFileSync(settings, `registry=${await registry()}\n`)
  const install = async (name) => {
    const folder = project()
    const began = performance.now()
    const args = ['install', '--no-audit', '--no-fund', '--no-update-notifier', '--cache', temporary('cache')]
    args.push('--userconfig', settings)
    const said = await run(runner, [program, ...args, name], { cwd: folder, env: { PATH }, all: true })
    return { folder, said, seconds: (performance.now() - began) / 1000 }
  }
  const sharp = await install('sharp')
  const { folder, said, seconds } = await install(tarball)
  checkQuiet(said)
  const got = drawing(await run(node, ['draw.mjs'], { cwd: folder, env: { PATH, DRAW_PNG: '1' } }))
  checkSame(got, reference)
  const times = [`installed in ${seconds.toFixed(1)} s`, `sharp alone in ${sharp.seconds.toFixed(1)} s`]
  return `${times.join(', ')}, a picture in ${got.seconds.toFixed(1)} s`
}

async function pnpm({ tarball, reference }) {
  const modules = await fromRegistry('pnpm@11')
  const folder = project({ 'package.json': manifest(tarball) })
  const { bin } = JSON.parse(readFileSync(join(modules, 'pnpm', 'package.json'), 'utf8'))
  const args = [join(modules, 'pnpm', bin.pnpm), 'install', '--store-dir', join(folder, '.store')]
  checkQuiet(await run(await newerNode(), args, { cwd: folder, all: true }))
  checkSame(drawing(await run(node, ['draw.mjs'], { cwd: folder, env: { DRAW_PNG: '1' } })), reference)
}

async function yarn({ tarball, reference }, linker) {
  const modules = await fromRegistry('@yarnpkg/cli-dist@4')
  const folder = project({
    'package.json': manifest(tarball),
    '.yarnrc.yml': `nodeLinker: ${linker}
enableTelemetry: false
enableGlobalCache: false
npmRegistryServer: '${await registry()}'
unsafeHttpWhitelist: ['*']
`,
    'yarn.lock': '',
  })
  const program = join(modules, '@yarnpkg', 'cli-dist', 'bin', 'yarn.js')
  const env = { CI: '', YARN_ENABLE_IMMUTABLE_INSTALLS: 'false', DRAW_PNG: '1' }
  const said = await run(node, [program, 'install'], { cwd: folder, env, all: true })
  // With Plug'n'Play, Yarn says of itself that its loader of ES modules is experimental (YN0092).
  checkQuiet(said.replace(/^.*(YN0092|Done with warnings).*$/gm, ''))
  checkSame(drawing(await run(node, [program, 'node', 'draw.mjs'], { cwd: folder, env })), reference)
}

export function managerChecks(context) {
  return [
    { name: 'npm 11', run: () => npm(context, 11) },
    { name: 'npm 12', run: () => npm(context, 12) },
    { name: 'pnpm 11', run: () => pnpm(context) },
    { name: 'Yarn 4, node-modules', run: () => yarn(context, 'node-modules') },
    { name: "Yarn 4, Plug'n'Play", run: () => yarn(context, 'pnp') },
  ]
}
