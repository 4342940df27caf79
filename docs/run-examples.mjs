/**
 * Runs the examples of README.md and docs/*.md (`npm run build` first), each in a process of its own:
 *
 *   node docs/run-examples.mjs [FILE…]
 *
 * A `js` block that imports DiffusionPipeline is a program. Any other one is given `pipe`, the bundled model. Lines of `sh`
 * blocks that call node-diffusion run the command in dist/. Blocks marked `no-run` are skipped. The folder that the examples
 * run in holds the files they name; models there are small ones under the names of large ones.
 */
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DiffusionPipeline, quantizeModel } from '../dist/index.js'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')

function blocks(file) {
  const text = readFileSync(file, 'utf8')
  return [...text.matchAll(/^```(js|sh)( no-run)?\n([\s\S]*?)^```$/gm)].map(
    ({ index, 1: language, 2: skip, 3: code }) => ({
      name: `${relative(root, file)}:${text.slice(0, index).split('\n').length}`,
      language,
      skip: skip !== undefined,
      code,
    }),
  )
}

/** The block as a whole program; undefined where there is nothing to run. */
function program({ language, code }) {
  if (language === 'js') {
    if (/^import .*DiffusionPipeline/m.test(code))
      return [process.execPath, ['--input-type=module', '-e', code]]
    const opened = `import { DiffusionPipeline } from 'node-diffusion'\n${code.replace(/^(?:import .*\n)*/, (imports) => `${imports}const pipe = await DiffusionPipeline.load()\n`)}`
    return [process.execPath, ['--input-type=module', '-e', `${opened}\nawait pipe.dispose()`]]
  }
  const lines = code.split('\n').filter((line) => line.includes('npx node-diffusion '))
  if (lines.length === 0) return undefined
  const npx = `npx() { shift; "${process.execPath}" "${join(root, 'dist', 'cli', 'main.js')}" "$@"; }`
  return ['bash', ['-ec', [npx, ...lines].join('\n')]]
}

async function prepare() {
  const folder = mkdtempSync(join(tmpdir(), 'node-diffusion-docs-'))
  const pipe = await DiffusionPipeline.load()
  const { images } = await pipe.generate({ prompt: 'a castle', seed: 1 })
  await images[0].toFile(join(folder, 'photo.jpg'))
  await quantizeModel(pipe.model.path, join(folder, 'model.gguf'), { type: 'q8_0' })
  await pipe.dispose()
  // The content of a file decides what it is, not its extension.
  symlinkSync('model.gguf', join(folder, 'v1-5-pruned-emaonly.safetensors'))
  cpSync(join(root, 'test', 'fixtures', 'tiny-vae', 'three-levels'), join(folder, 'taesd'), {
    recursive: true,
  })
  cpSync(join(root, 'test', 'fixtures', 'vision', 'clip'), join(folder, 'CLIP-ViT-H-14'), { recursive: true })
  const adapter = (name) => join(root, 'test', 'fixtures', 'adapters', name)
  symlinkSync(adapter('kohya.safetensors'), join(folder, 'style.safetensors'))
  symlinkSync(adapter('peft.safetensors'), join(folder, 'detail.safetensors'))
  const embedding = (name) => join(root, 'test', 'fixtures', 'embeddings', name)
  symlinkSync(embedding('three-words.pt'), join(folder, 'easynegative.pt'))
  symlinkSync(embedding('diffusers.bin'), join(folder, 'learned_embeds.bin'))
  symlinkSync('model.gguf', join(folder, 'sd15.safetensors'))
  mkdirSync(join(folder, 'foxes'))
  mkdirSync(join(folder, 'node_modules'))
  symlinkSync(root, join(folder, 'node_modules', 'node-diffusion'))
  return folder
}

const pages = readdirSync(join(root, 'docs')).filter(
  (name) => name.endsWith('.md') && name !== 'benchmarks.md',
)
const files =
  process.argv.length > 2
    ? process.argv.slice(2).map((file) => resolve(file))
    : [join(root, 'README.md'), ...pages.map((name) => join(root, 'docs', name))]
const folder = await prepare()
let [passed, failed] = [0, 0]
try {
  for (const block of files.flatMap(blocks)) {
    const run = block.skip ? undefined : program(block)
    if (!run) continue
    const { status, stdout, stderr } = spawnSync(...run, { cwd: folder, encoding: 'utf8' })
    if (status === 0) passed++
    else failed++
    console.log(`${status === 0 ? 'ok  ' : 'FAIL'} ${block.name}`)
    if (status !== 0) console.log(`${stdout}${stderr}`)
  }
} finally {
  rmSync(folder, { recursive: true, force: true })
}
console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed > 0 ? 1 : 0
