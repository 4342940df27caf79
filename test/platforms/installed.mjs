/** The tarball as users install it: with npm, in a project of its own, without scripts. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../../scripts/build-addon.mjs'
import { checkSame, drawing, expect, fromRegistry, project, run } from './support.mjs'

const maxTarball = 23e6
const maxInstalled = 32e6
const maxPackages = 20 // besides our own

function bytesOf(folder) {
  return readdirSync(folder, { recursive: true })
    .map((name) => statSync(join(folder, name)))
    .reduce((sum, stat) => sum + (stat.isFile() ? stat.size : 0), 0)
}

/** The number of packages in node_modules besides our own. */
function countPackages(modules) {
  const names = readdirSync(modules).filter((name) => !name.startsWith('.') && name !== 'node-diffusion')
  return names.flatMap((name) => (name.startsWith('@') ? readdirSync(join(modules, name)) : [name])).length
}

const types = {
  'module.mts': `import { DiffusionPipeline, type GenerateOptions } from 'node-diffusion'
await using pipe = await DiffusionPipeline.load()
const options: GenerateOptions = { prompt: 'x' }
const { images } = await pipe.generate(options)
export const bytes: Uint8Array = await images[0]!.toBuffer('png')
`,
  'script.cts': `import { DiffusionPipeline, DiffusionError } from 'node-diffusion'
export async function draw() {
  const pipe = await DiffusionPipeline.load()
  await pipe.dispose()
  throw new DiffusionError('IO', 'x')
}
`,
}

async function checkTypes(folder, typescript) {
  const tsc = join(typescript, 'bin', 'tsc')
  const strict = ['--noEmit', '--strict', '--skipLibCheck', 'false', '--target', 'es2022', '--types', 'none']
  // Without the DOM's declarations, and without Node's. `types` cannot be empty on the command line.
  const options = [
    ...strict.slice(0, -2),
    '--module',
    'nodenext',
    '--lib',
    'es2022',
    '--typeRoots',
    join(folder, 'none'),
  ]
  await run(process.execPath, [tsc, ...options, 'module.mts', 'script.cts'], { cwd: folder })
}

/** Installs the tarball once; all checks here use that project. */
export function installedChecks({ tarball, size, reference, complete }) {
  let folder
  const installed = () => join(folder, 'node_modules', 'node-diffusion')
  return [
    {
      name: 'npm install --ignore-scripts, and a picture',
      fast: true,
      async run() {
        folder = project({
          ...types,
          'require.cjs': "console.log(require('node-diffusion').cpuInfo().kernel)",
        })
        await run(
          'npm',
          ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline', tarball],
          {
            cwd: folder,
          },
        )
        checkSame(drawing(await run(process.execPath, ['draw.mjs'], { cwd: folder })), reference)
      },
    },
    {
      name: 'npx node-diffusion',
      fast: true,
      async run() {
        await run(
          'npx',
          ['--no-install', 'node-diffusion', 'a blue cat', '--steps', '2', '-o', 'cat.png', '-q'],
          {
            cwd: folder,
          },
        )
        expect(readFileSync(join(folder, 'cat.png')).subarray(1, 4).toString() === 'PNG', 'no PNG')
      },
    },
    {
      name: 'require()',
      fast: true,
      async run() {
        const output = await run(process.execPath, ['require.cjs'], {
          cwd: folder,
          env: { NODE_OPTIONS: '--throw-deprecation' },
        })
        expect(output.trim() === reference.kernel, `printed ${output}`)
      },
    },
    {
      name: 'size and number of packages',
      fast: true,
      run() {
        const count = countPackages(join(folder, 'node_modules'))
        expect(count <= maxPackages, `${count} packages`)
        if (!complete) return `${count} packages; sizes are for a package with all prebuilds`
        const bytes = bytesOf(installed())
        expect(size <= maxTarball, `the tarball has ${size} bytes, more than ${maxTarball}`)
        expect(bytes <= maxInstalled, `${bytes} bytes installed, more than ${maxInstalled}`)
        return `${count} packages, ${size} bytes packed, ${bytes} installed`
      },
    },
    {
      name: 'types, with the TypeScript of the checkout',
      fast: true,
      run: () => checkTypes(folder, join(root, 'node_modules', 'typescript')),
    },
    ...['5.4', '5', '6', '7'].map((version) => ({
      name: `types, TypeScript ${version}`,
      run: async () => checkTypes(folder, join(await fromRegistry(`typescript@${version}`), 'typescript')),
    })),
    {
      name: 'publint',
      async run() {
        const modules = await fromRegistry('publint@0.3.25')
        await run(process.execPath, [join(modules, 'publint', 'src', 'cli.js'), '--strict', installed()])
      },
    },
    {
      name: 'are the types wrong?',
      async run() {
        const modules = await fromRegistry('@arethetypeswrong/cli@0.18.5')
        await run(process.execPath, [join(modules, '@arethetypeswrong', 'cli', 'dist', 'index.js'), tarball])
      },
    },
    {
      name: 'node-diffusion build, from the sources in the package',
      async run() {
        const main = join(installed(), 'dist', 'cli', 'main.js')
        await run(process.execPath, [main, 'build'], { cwd: folder, timeout: 1_800_000 })
        expect(existsSync(join(installed(), 'build', 'Release', 'node_diffusion.node')), 'nothing was built')
        checkSame(drawing(await run(process.execPath, ['draw.mjs'], { cwd: folder })), reference)
      },
    },
  ]
}
