/** The tarball as users install it: with npm, in a project of its own, without scripts. */
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { root } from '../../scripts/build-addon.mjs'
import { maxInstalled, maxTarball } from '../../scripts/pack.mjs'
import { billOfMaterials } from '../../scripts/sbom.mjs'
import { checkSame, drawing, expect, fromRegistry, installedProject, run } from './support.mjs'

const maxPackages = 20 // besides our own

function bytesOf(folder) {
  return readdirSync(folder, { recursive: true })
    .map((name) => statSync(join(folder, name)))
    .reduce((sum, stat) => sum + (stat.isFile() ? stat.size : 0), 0)
}

/** The number of packages in node_modules besides our own, by npm's own list. */
function countPackages(modules) {
  const { packages } = JSON.parse(readFileSync(join(modules, '.package-lock.json'), 'utf8'))
  return Object.keys(packages).length - 1
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

const lib = ['es2022']
/** By what a program declares besides: what its compiler is set to. */
const settings = {
  'nothing else': { module: 'nodenext', lib, types: [] },
  'Node.js': { module: 'nodenext', lib, typeRoots: [join(root, 'node_modules', '@types')], types: ['node'] },
  'the DOM, for a bundler': {
    ...{ module: 'esnext', moduleResolution: 'bundler', lib: [...lib, 'dom'], types: [] },
  },
}

async function checkTypes(folder, typescript) {
  for (const [name, options] of Object.entries(settings)) {
    const compilerOptions = { noEmit: true, strict: true, skipLibCheck: false, target: 'es2022', ...options }
    writeFileSync(
      join(folder, 'tsconfig.json'),
      JSON.stringify({ compilerOptions, files: Object.keys(types) }),
    )
    try {
      await run(process.execPath, [join(typescript, 'bin', 'tsc'), '-p', '.'], { cwd: folder })
    } catch (error) {
      throw new Error(`beside ${name}: ${error.message}`, { cause: error })
    }
  }
}

/** Installs the tarball once; all checks here use that project. */
export function installedChecks({ tarball, size, reference, complete }) {
  let installation
  const project = () =>
    (installation ??= installedProject(tarball, {
      ...types,
      'require.cjs': "console.log(require('node-diffusion').cpuInfo().kernel)",
    }))
  const installed = async () => join(await project(), 'node_modules', 'node-diffusion')
  const node = async (args, options) => run(process.execPath, args, { cwd: await project(), ...options })
  return [
    {
      name: 'npm install --ignore-scripts, and a picture',
      fast: true,
      async run() {
        checkSame(drawing(await node(['draw.mjs'], { env: { DRAW_PNG: '1' } })), reference)
      },
    },
    {
      name: 'npx node-diffusion',
      fast: true,
      async run() {
        const cwd = await project()
        const args = ['--no-install', 'node-diffusion', 'a blue cat', '--steps', '2', '-o', 'cat.png', '-q']
        await run('npx', args, { cwd })
        expect(readFileSync(join(cwd, 'cat.png')).subarray(1, 4).toString() === 'PNG', 'no PNG')
      },
    },
    {
      name: 'require()',
      fast: true,
      async run() {
        const output = await node(['require.cjs'], { env: { NODE_OPTIONS: '--throw-deprecation' } })
        expect(output.trim() === reference.kernel, `printed ${output}`)
      },
    },
    {
      name: 'size and number of packages',
      fast: true,
      async run() {
        const count = countPackages(join(await project(), 'node_modules'))
        expect(count <= maxPackages, `${count} packages`)
        if (!complete) return `${count} packages; sizes are for a package with all prebuilds`
        const bytes = bytesOf(await installed())
        expect(size <= maxTarball, `the tarball has ${size} bytes, more than ${maxTarball}`)
        expect(bytes <= maxInstalled, `${bytes} bytes installed, more than ${maxInstalled}`)
        return `${count} packages, ${size} bytes packed, ${bytes} installed`
      },
    },
    {
      name: 'types, with the TypeScript of the checkout',
      fast: true,
      run: async () => checkTypes(await project(), join(root, 'node_modules', 'typescript')),
    },
    ...['5.4', '5', '6', '7'].map((version) => ({
      name: `types, TypeScript ${version}`,
      async run() {
        const typescript = join(await fromRegistry(`typescript@${version}`), 'typescript')
        await checkTypes(await project(), typescript)
        return JSON.parse(readFileSync(join(typescript, 'package.json'), 'utf8')).version
      },
    })),
    {
      name: 'publint',
      fast: true,
      async run() {
        const modules = await fromRegistry('publint@0.3.25')
        await node([join(modules, 'publint', 'src', 'cli.js'), '--strict', await installed()])
      },
    },
    {
      name: 'are the types wrong?',
      fast: true,
      async run() {
        const modules = await fromRegistry('@arethetypeswrong/cli@0.18.5')
        await node([join(modules, '@arethetypeswrong', 'cli', 'dist', 'index.js'), tarball])
      },
    },
    {
      name: 'bill of materials, against the schema of CycloneDX',
      async run() {
        const packages = [
          '@cyclonedx/cyclonedx-library@10',
          'ajv@8',
          'ajv-formats@3',
          'ajv-formats-draft2019@1',
        ]
        const modules = await fromRegistry(...packages)
        const { Validation } = createRequire(join(modules, 'x.js'))('@cyclonedx/cyclonedx-library')
        const document = billOfMaterials(tarball)
        const validator = new Validation.JsonStrictValidator(document.specVersion)
        const faults = await validator.validate(JSON.stringify(document))
        expect(faults === null, JSON.stringify(faults).slice(0, 1000))
      },
    },
    {
      name: 'node-diffusion build, from the sources in the package',
      async run() {
        const folder = await installed()
        await node([join(folder, 'dist', 'cli', 'main.js'), 'build'], { timeout: 1_800_000 })
        expect(existsSync(join(folder, 'build', 'Release', 'node_diffusion.node')), 'nothing was built')
        checkSame(drawing(await node(['draw.mjs'])), reference)
      },
    },
  ]
}
