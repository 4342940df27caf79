/** The emulated GPU for the tests of the API: a driver library that runs the kernels on the CPU, built with the tests. */
import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { brotliCompressSync } from 'node:zlib'
import type { Image } from '../../lib/index.js'
import { packageRoot } from '../../lib/package-root.js'

const driver = join(packageRoot(), 'build', 'Release', 'libcuda-emulated-driver.so')

/** The emulator is written for Linux, on 64-bit x86 and Arm. */
export const emulatorBuilt = existsSync(driver)
export const emulatorExpected = process.platform === 'linux' && ['x64', 'arm64'].includes(process.arch)

let kernels: string | undefined

/** A folder with kernels, which goes with this process. */
function kernelsFolder(): string {
  if (kernels) return kernels
  const folder = (kernels = mkdtempSync(join(tmpdir(), 'kernels-')))
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
  writeFileSync(
    join(folder, 'kernels.br'),
    brotliCompressSync('[["sm_80.cubin",7],["sm_90a.cubin",7]]\nkernelskernels'),
  )
  return folder
}

/** The environment of a process with an emulated GPU. It finds its kernels by name, so any file will do for them. */
export function emulatedEnvironment(): Record<string, string> {
  return { NODE_DIFFUSION_CUDA_DRIVER: driver, NODE_DIFFUSION_CUDA_KERNELS: kernelsFolder() }
}

/** Peak signal-to-noise ratio of two images in dB. */
export function psnr(a: Image, b: Image): number {
  let squares = 0
  for (let i = 0; i < a.data.length; i++) squares += (a.data[i] - b.data[i]) ** 2
  return 10 * Math.log10((255 * 255 * a.data.length) / squares)
}

/** No driver at all, whatever this machine has. */
export const noDriver = { NODE_DIFFUSION_CUDA_DRIVER: join(packageRoot(), 'no-such-library.so') }

/** Evaluates `body`, the inside of an async function with the library as `nd`, in a process of its own; what it returns. */
export async function inProcess(environment: Record<string, string>, body: string): Promise<unknown> {
  const library = new URL('../../lib/index.js', import.meta.url).href
  const script = `
    import * as nd from ${JSON.stringify(library)}
    const codeOf = (promise) => promise.then(() => 'none', ({ code, message }) => code + ': ' + message)
    const result = await (async () => { ${body} })()
    process.stdout.write('\\nresult ' + JSON.stringify(result ?? null))`
  // A process that hangs is named by the test that started it, before tap gives the whole file up.
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], {
    env: { ...process.env, ...environment },
    timeout: 200_000,
    killSignal: 'SIGKILL',
  })
  return JSON.parse(stdout.slice(stdout.lastIndexOf('\nresult ') + '\nresult '.length))
}
