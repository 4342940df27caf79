/**
 * `npm run lint:kernels`: nvcc compiles every CUDA kernel for every architecture that we support, and none keeps registers in
 * memory (spills), which a main loop would pay for in every step. Needs no GPU. Without nvcc it says so and passes; `--require`
 * makes that a failure. nvcc is looked for in $ND_NVCC, on the PATH, and in build/nvcc, where `--install` puts PyPI's if
 * there is no other. What the package ships is compiled by another compiler, see build-cuda.mjs.
 */
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { root } from './build-addon.mjs'
import { kernelsOf } from './kernel-report.mjs'

const architectures = ['75', '80', '86', '89', '90', '120']
/** PyPI's compiler: nvcc itself, cicc, and the headers that kernels include. Together 260 MB to download. */
const wheels = [
  'nvidia-cuda-nvcc==13.0.88',
  'nvidia-nvvm==13.0.88',
  'nvidia-cuda-crt==13.0.88',
  'nvidia-cuda-runtime==13.0.96',
  'nvidia-cuda-cccl==13.0.85',
]

const installed = join(root, 'build', 'nvcc')

function install() {
  const pip = ['-m', 'pip', 'install', '--quiet', '--no-deps', '--target', installed, ...wheels]
  const { status } = spawnSync('python3', pip, { stdio: 'inherit' })
  if (status !== 0) throw new Error('pip could not install nvcc')
}

function findNvcc() {
  const candidates = [process.env.ND_NVCC, 'nvcc', join(installed, 'nvidia', 'cu13', 'bin', 'nvcc')]
  return candidates.find((path) => path && spawnSync(path, ['--version']).status === 0)
}

function compile(nvcc, source, architecture, output) {
  const includes = ['cpp', 'test'].map((folder) => `-I${join(root, folder)}`)
  const target = `-gencode=arch=compute_${architecture},code=sm_${architecture}`
  const args = ['-std=c++17', '-O3', target, '-cubin', '-Xptxas', '-v', ...includes, '-o', output, source]
  return new Promise((resolve) => {
    const child = spawn(nvcc, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    let log = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (log += chunk))
    child.on('close', (status) => resolve({ status, log }))
  })
}

let nvcc = findNvcc()
if (!nvcc && process.argv.includes('--install')) {
  install()
  nvcc = findNvcc()
}
if (!nvcc) {
  console.log(
    'nvcc is not installed: the CUDA kernels were not compiled (see scripts/check-kernels.mjs --install)',
  )
  process.exit(process.argv.includes('--require') ? 1 : 0)
}

const folder = join(root, 'cpp', 'cuda', 'kernels')
const tests = join(root, 'test', 'cuda', 'kernels')
const sources = [folder, tests].flatMap((path) =>
  readdirSync(path)
    .filter((name) => name.endsWith('.cu'))
    .map((name) => join(path, name)),
)
const work = mkdtempSync(join(tmpdir(), 'kernels-'))
process.on('exit', () => rmSync(work, { recursive: true, force: true }))
const jobs = sources.flatMap((source) =>
  // wgmma and tensor copies are there only in the architecture-specific form.
  (/wgmma|hopper/.test(source) ? ['90a'] : architectures).map((architecture) => ({ source, architecture })),
)
let passed = 0
let failed = 0
async function worker() {
  for (let job = jobs.shift(); job; job = jobs.shift()) {
    const { source, architecture } = job
    const output = join(work, `${jobs.length}.cubin`)
    const { status, log } = await compile(nvcc, source, architecture, output)
    if (status !== 0) {
      failed++
      console.log(`FAIL ${source}, sm_${architecture}:\n${log}`)
      continue
    }
    for (const { name, registers, spills } of kernelsOf(log)) {
      if (process.argv.includes('--verbose'))
        console.log(`${name}, sm_${architecture}: ${registers} registers`)
      if (spills === 0) passed++
      else {
        failed++
        console.log(`FAIL ${name}, sm_${architecture}: ${spills} bytes of spills with ${registers} registers`)
      }
    }
  }
}
await Promise.all(Array.from({ length: availableParallelism() }, worker))
console.log(`${passed} passed, ${failed} failed`)
process.exit(failed > 0 ? 1 : 0)
