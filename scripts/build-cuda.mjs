/**
 * `npm run build:cuda`: the CUDA kernels as the package has them: build/Release/cuda/kernels.br with the machine code for
 * each architecture, and PTX for later ones. Needs no GPU. Fails where a kernel keeps registers in memory (spills).
 *
 * NVRTC 12.9 compiles them, because drivers of 2025 refuse what nvcc 13 makes: `--install` fetches it from PyPI
 * (100 MB) into build/nvrtc. Without it, nvcc does, for this machine's own driver. `--out FOLDER` writes elsewhere, and
 * other arguments are architectures, such as 90a, in place of all.
 */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { writeArchive } from './archive.mjs'
import { root } from './build-addon.mjs'
import { kernelsOf } from './kernel-report.mjs'

/** Code runs on later minor versions of the same major one. 90a: with wgmma and tensor copies. */
const architectures = ['75', '80', '86', '89', '90a', '120']
/** Of PTX: what comes between and after those. */
const ptx = '90'
/** Bytes of all files together that the package may have. */
const maxBytes = 2e6

const wheels = ['nvidia-cuda-nvrtc-cu12==12.9.86', 'nvidia-cuda-runtime-cu12==12.9.79']
const installed = join(root, 'build', 'nvrtc')

const args = process.argv.slice(2)
const option = (name) => {
  const at = args.indexOf(name)
  return at < 0 ? undefined : args.splice(at, 2)[1]
}
const flag = (name) => {
  const at = args.indexOf(name)
  return at >= 0 && args.splice(at, 1).length > 0
}

/** What the command prints. */
function run(command, list) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, list, { stdio: ['ignore', 'pipe', 'pipe'] })
    let text = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (text += chunk))
    child.on('error', reject)
    child.on('close', (status) =>
      status === 0 ? resolve(text) : reject(new Error(`${command} failed (status ${status}):\n${text}`)),
    )
  })
}

const out = option('--out') ?? join(root, 'build', 'Release', 'cuda')
if (flag('--install') && !existsSync(installed)) {
  const pip = ['-m', 'pip', 'install', '--quiet', '--no-deps', '--target', installed, ...wheels]
  if (spawnSync('python3', pip, { stdio: 'inherit' }).status !== 0)
    throw new Error('pip could not install NVRTC')
}
const nvcc = existsSync(installed)
  ? undefined
  : [process.env.ND_NVCC, 'nvcc', '/usr/local/cuda/bin/nvcc'].find(
      (path) => path && spawnSync(path, ['--version']).status === 0,
    )
if (!existsSync(installed) && !nvcc) {
  console.error(
    'Neither NVRTC nor nvcc is installed: npm run build:cuda -- --install fetches NVRTC from PyPI',
  )
  process.exit(1)
}

const kernels = join(root, 'cpp', 'cuda', 'kernels')
const work = mkdtempSync(join(tmpdir(), 'cuda-'))
const source = join(work, 'kernels.cu')
const sources = readdirSync(kernels).filter((name) => name.endsWith('.cu'))
writeFileSync(source, sources.map((name) => `#include "cuda/kernels/${name}"\n`).join(''))

const wanted = args.length > 0 ? args : architectures
const outputs = [
  ...wanted.map((architecture) => `sm_${architecture}.cubin`),
  ...(args.length > 0 ? [] : [`compute_${ptx}.ptx`]),
]
const include = join(root, 'cpp')
async function compile(output) {
  const path = join(work, output)
  if (!nvcc) return run('python3', [join(root, 'scripts', 'nvrtc.py'), installed, source, include, path])
  const [name, kind] = output.split('.')
  const target = `-gencode=arch=${name.replace('sm', 'compute')},code=${name}`
  const report = kind === 'cubin' ? ['-Xptxas', '-v'] : []
  return run(nvcc, ['-std=c++17', '-O3', target, `-${kind}`, ...report, `-I${include}`, '-o', path, source])
}

const jobs = [...outputs]
const spilling = []
let count = 0
async function worker() {
  for (let job = jobs.shift(); job; job = jobs.shift()) {
    const kernels = kernelsOf(await compile(job))
    count += kernels.length
    for (const { name, registers, spills } of kernels)
      if (spills > 0)
        spilling.push(`${name} of ${job}: ${spills} bytes of spills with ${registers} registers`)
  }
}
let bytes
try {
  await Promise.all(Array.from({ length: Math.min(availableParallelism(), outputs.length) }, worker))
  rmSync(out, { recursive: true, force: true })
  mkdirSync(out, { recursive: true })
  bytes = writeArchive(
    join(out, 'kernels.br'),
    outputs.map((output) => [output, readFileSync(join(work, output))]),
  )
} finally {
  rmSync(work, { recursive: true, force: true })
}
console.log(
  `${join(out, 'kernels.br')}: ${outputs.join(', ')}, ${(bytes / 1e6).toFixed(2)} MB, ${count} kernels`,
)
if (spilling.length > 0) throw new Error(spilling.join('\n'))
if (bytes > maxBytes) throw new Error(`The kernels take ${bytes} bytes, more than ${maxBytes}`)
