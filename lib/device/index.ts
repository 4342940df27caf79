/** Devices that models can compute on: which there are, and which one a model is loaded on. */
import { cpus } from 'node:os'
import { DiffusionError, type DiffusionErrorCode } from '../errors.js'
import { formatBytes } from '../memory.js'
import { cancellable } from '../native-call.js'
import {
  native,
  type CudaDevice,
  type CudaDeviceInfo,
  type Kernels,
  type ModelSource,
  type Precision,
} from '../native.js'
import type { DeviceName, DeviceOption } from '../types.js'
import { readKernels } from './kernels.js'

/** A device of this machine. */
export interface DeviceInfo {
  /** As `device` of load() takes it. */
  device: DeviceName
  /** The maker's name. */
  name: string
  /** Bytes of memory; of the CPU, none is given. */
  memory?: number
  /** CUDA's compute capability, such as '9.0'. */
  computeCapability?: string
  /**
   * Of a GPU that the process has loaded a model on: what linear layers and convolutions choose their kernels by. Where it is
   * 'measured on this GPU', the kernels were timed when the first model was loaded; otherwise it begins with 'built in: ' and
   * says why.
   */
  productTimes?: string
  /**
   * Of a Hopper GPU (H100, H200) that the process has loaded a model on: whether the kernels for Hopper alone are used, and
   * why. They are tried when the first model is loaded. It begins with 'on: ' or 'off: '. Where the trial failed by what may
   * pass, such as too little memory, it says so, and the next two loads try again.
   */
  hopperKernels?: string
  /**
   * Of a GPU of compute capability 9.0 or later that the process has loaded a model on: whether a kernel's blocks are placed
   * while the previous kernel ends, and why. That is tried when the first model is loaded. It begins with 'on: ' or 'off: '.
   */
  kernelOverlap?: string
}

/** All devices of this machine, and why there is no GPU among them. */
export interface Devices {
  devices: DeviceInfo[]
  /** Why CUDA cannot be used; undefined if it can. */
  cudaUnavailable?: string
}

/** Lists the devices that models can compute on, the CPU first. */
export async function listDevices(): Promise<Devices> {
  const cpu: DeviceInfo = { device: 'cpu', name: cpus()[0]?.model.trim() || process.arch }
  try {
    const gpus = await cudaDevices()
    const devices = gpus.map(({ number, name, capability, memory, tiles, hopper, overlap }): DeviceInfo => {
      const computeCapability = `${Math.floor(capability / 10)}.${capability % 10}`
      return {
        device: `cuda:${number}`,
        name,
        memory,
        computeCapability,
        ...(tiles !== undefined && { productTimes: tiles }),
        ...(hopper !== undefined && { hopperKernels: hopper }),
        ...(overlap !== undefined && { kernelOverlap: overlap }),
      }
    })
    return { devices: [cpu, ...devices] }
  } catch (error) {
    if (!isDeviceError(error)) throw error
    return { devices: [cpu], cudaUnavailable: error.message }
  }
}

/** A device that a model is being loaded on. */
export interface Placement {
  device: DeviceName
  /** For ModelSource.device; undefined for the CPU. */
  cuda?: CudaDevice
  /** Why 'auto' did not take a GPU. */
  reason?: string
}

/** What decides where a model is loaded. */
export interface PlacementRequest {
  device: DeviceOption | undefined
  precision: Precision | undefined
  kernels?: Kernels | undefined
  /** The model's weights. */
  sources: readonly ModelSource[]
  signal: AbortSignal | undefined
}

/**
 * Calls `load` with the device that was asked for. 'auto', the default, takes the first GPU that the weights fit on; the CPU
 * if there is none, or if loading on the GPU fails for a reason of its own.
 *
 * @throws {TypeError} a GPU was given with a precision, as GPUs multiply in half precision, or with the CPU's kernels
 * @throws {DiffusionError} DEVICE_UNAVAILABLE, DEVICE_LOST
 */
export async function loadOnDevice<T>(
  { device = 'auto', precision = 'auto', kernels = 'auto', sources, signal }: PlacementRequest,
  load: (placement: Placement) => Promise<T>,
): Promise<T> {
  if (device === 'cpu') return load({ device })
  if (device === 'auto') {
    const placement = await automatic({ precision, kernels, sources, signal })
    try {
      return await load(placement)
    } catch (error) {
      if (!placement.cuda || !isDeviceError(error)) throw error
      return await load({ device: 'cpu', reason: error.message })
    } finally {
      await placement.cuda?.dispose()
    }
  }
  if (precision !== 'auto') {
    const message = `Expected 'auto' for precision, as device '${device}' multiplies in half precision`
    throw new TypeError(`${message}, but received '${precision}'`)
  }
  if (kernels !== 'auto')
    throw new TypeError(`Expected 'auto' for kernels with device '${device}', but received '${kernels}'`)
  const number = device === 'cuda' ? 0 : Number(device.slice('cuda:'.length))
  const gpus = await cudaDevices(signal)
  const gpu = gpus.find((one) => one.number === number)
  if (!gpu) {
    const known = gpus.map((one) => `cuda:${one.number} (${one.name})`).join(', ')
    throw new DiffusionError('DEVICE_UNAVAILABLE', `There is no device cuda:${number}, only ${known}`)
  }
  const cuda = await openDevice(gpu, signal)
  try {
    return await load({ device: `cuda:${number}`, cuda })
  } finally {
    // The models keep it open.
    await cuda.dispose()
  }
}

async function automatic({
  precision,
  kernels,
  sources,
  signal,
}: Omit<PlacementRequest, 'device'>): Promise<Placement> {
  const cpu = (reason: string): Placement => ({ device: 'cpu', reason })
  if (precision !== 'auto')
    return cpu(`GPUs multiply in half precision, and precision '${precision}' was given`)
  if (kernels !== 'auto') return cpu(`kernels '${kernels}' was given, which is for the CPU`)
  try {
    let reason = 'There is no GPU'
    for (const gpu of await cudaDevices(signal)) {
      const cuda = await openDevice(gpu, signal)
      const needed = bytesOnDevice(sources) + HEADROOM
      const { free } = cuda.memory()
      if (needed <= free) return { device: `cuda:${gpu.number}`, cuda }
      await cuda.dispose()
      reason = `The model needs about ${formatBytes(needed)} of GPU memory, and ${gpu.name} has ${formatBytes(free)} left`
    }
    return cpu(reason)
  } catch (error) {
    if (!isDeviceError(error)) throw error
    return cpu(error.message)
  }
}

/** Working memory for an image of 512×512, and what the driver takes. */
const HEADROOM = 700e6

/** Bytes of the weights on a GPU: floats as half precision, blocks and float8 as they are stored. */
function bytesOnDevice(sources: readonly ModelSource[]): number {
  let bytes = 0
  for (const { tensors } of sources)
    for (const { type, shape, bytes: stored } of tensors)
      bytes += ['f32', 'f16', 'bf16', 'f64'].includes(type) ? 2 * shape.reduce((a, b) => a * b, 1) : stored
  return bytes
}

function cudaDevices(signal?: AbortSignal): Promise<CudaDeviceInfo[]> {
  return cancellable(signal, (cancel) => native().cudaDevices(cancel))
}

async function openDevice(
  { number, capability }: CudaDeviceInfo,
  signal: AbortSignal | undefined,
): Promise<CudaDevice> {
  const image = await readKernels(capability)
  return cancellable(signal, (cancel) => native().openCudaDevice(number, image, cancel))
}

/** Errors of a GPU that the CPU does not share. */
const deviceCodes: readonly DiffusionErrorCode[] = ['DEVICE_UNAVAILABLE', 'DEVICE_LOST', 'OUT_OF_MEMORY']

function isDeviceError(error: unknown): error is DiffusionError {
  return error instanceof DiffusionError && deviceCodes.includes(error.code)
}
