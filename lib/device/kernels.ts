/**
 * The kernels for GPUs: an archive beside the addon, made by scripts/build-cuda.mjs, with those of every architecture, of which
 * a device needs one.
 */
import { join } from 'node:path'
import { readArchive } from '../archive.js'
import { DiffusionError } from '../errors.js'
import { kernelFolders } from '../package-root.js'

/** Where kernels may be. The environment variable is for tests and special builds. */
function folders(): string[] {
  const given = process.env.NODE_DIFFUSION_CUDA_KERNELS
  return given ? [given] : kernelFolders()
}

/**
 * The image that runs on a GPU of this compute capability (90 for 9.0): code for the same major version and at
 * most the same minor one, or else PTX for at most the same version, which the driver compiles.
 */
export function chooseKernels(names: readonly string[], capability: number): string | undefined {
  const found = names.flatMap((name) => {
    const [, kind, digits, only] = /^(sm|compute)_(\d+)(a?)\.(?:cubin|ptx)$/.exec(name) ?? []
    const version = Number(digits)
    // sm_90a uses instructions of 9.0 alone.
    return kind && (!only || version === capability) ? [{ name, code: kind === 'sm', version }] : []
  })
  const best = (list: typeof found) =>
    list.filter(({ version }) => version <= capability).sort((a, b) => b.version - a.version)[0]?.name
  const sameMajor = ({ version }: { version: number }) =>
    Math.floor(version / 10) === Math.floor(capability / 10)
  return best(found.filter((one) => one.code && sameMajor(one))) ?? best(found.filter((one) => !one.code))
}

/**
 * The kernels for a GPU of this compute capability.
 *
 * @throws {DiffusionError} DEVICE_UNAVAILABLE: there are none
 */
export async function readKernels(capability: number): Promise<Uint8Array> {
  const version = `${Math.floor(capability / 10)}.${capability % 10}`
  if (capability < 75) {
    throw new DiffusionError(
      'DEVICE_UNAVAILABLE',
      `Expected a GPU of compute capability 7.5 (Turing, 2018) or newer but found ${version}`,
    )
  }
  const tried: string[] = []
  for (const folder of folders()) {
    const file = join(folder, 'kernels.br')
    try {
      const images = await readArchive(file)
      const image = images.get(chooseKernels([...images.keys()], capability) ?? '')
      if (image) return image
      tried.push(`${file} (${[...images.keys()].join(', ')})`)
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      tried.push(`${file} (${code === 'ENOENT' ? 'nothing there' : message})`)
    }
  }
  throw new DiffusionError(
    'DEVICE_UNAVAILABLE',
    `No CUDA kernels for a GPU of compute capability ${version} were found. Tried: ${tried.join('; ')}. ` +
      'In a checkout, npm run build:cuda makes them',
  )
}
