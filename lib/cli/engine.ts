/** The part of the library that the command line uses. Tests replace it. */
import type { DiffusionPipeline, EstimateOptions } from '../pipeline/diffusion-pipeline.js'
import type { DeviceEstimate, Estimate } from '../pipeline/estimate.js'
import type { Devices } from '../device/index.js'
import type { CachedModel, PullOptions, WellKnownModel } from '../hub/index.js'
import type { CpuInfo } from '../native.js'
import type { LoadOptions, Preset } from '../options/index.js'
import type { MergeOptions, MergeReport, QuantizeOptions, QuantizeReport } from '../quantize/index.js'
import type { ModelDescription } from '../models/model-description.js'
import type { DeviceOption } from '../types.js'

export type CliPipeline = Pick<DiffusionPipeline, 'generate' | 'memoryNeeded' | 'dispose'> & {
  readonly model: Pick<DiffusionPipeline['model'], 'factor'>
  readonly device: DiffusionPipeline['device']
}

export interface Engine {
  load(path: string | undefined, options: LoadOptions): Promise<CliPipeline>
  estimate(path: string, load: LoadOptions, run: EstimateOptions): Promise<Estimate | DeviceEstimate>
  openModel(path: string): Promise<ModelDescription>
  quantize(input: string, output: string, options: QuantizeOptions): Promise<QuantizeReport>
  merge(input: string, output: string, options: MergeOptions): Promise<MergeReport>
  pull(reference: string, options: PullOptions): Promise<string>
  cachedModels(): Promise<CachedModel[]>
  wellKnownModels(): Promise<readonly WellKnownModel[]>
  schedulerNames(): Promise<readonly string[]>
  presets(): Promise<readonly ({ name: string } & Preset)[]>
  defaultSchedulerName(schedule: ModelDescription['schedule']): Promise<string>
  /** Number of physical cores that this process may use. */
  cores(): Promise<number>
  /** With a device, after the bundled model was loaded there, which tries a GPU's kernels. */
  devices(device: DeviceOption | undefined, signal: AbortSignal): Promise<Devices & { cpu: CpuInfo }>
}

/** The library itself. It is imported when it is needed, so that `--help` does not wait for the addon. */
export const library: Engine = {
  async load(path, options) {
    const { DiffusionPipeline } = await import('../index.js')
    return DiffusionPipeline.load(path, options)
  },
  async estimate(path, load, run) {
    const { DiffusionPipeline } = await import('../index.js')
    return DiffusionPipeline.estimate(path, load, run)
  },
  async openModel(path) {
    const { openModel } = await import('../models/index.js')
    return openModel(path)
  },
  async quantize(input, output, options) {
    const { quantizeModel } = await import('../quantize/index.js')
    return quantizeModel(input, output, options)
  },
  async merge(input, output, options) {
    const { mergeModel } = await import('../quantize/index.js')
    return mergeModel(input, output, options)
  },
  async pull(reference, options) {
    const { pullModel } = await import('../hub/index.js')
    return pullModel(reference, options)
  },
  async cachedModels() {
    const { cachedModels } = await import('../hub/index.js')
    return cachedModels()
  },
  async wellKnownModels() {
    const { wellKnownModels } = await import('../hub/index.js')
    return wellKnownModels
  },
  async schedulerNames() {
    const { schedulerNames } = await import('../schedulers/index.js')
    return schedulerNames
  },
  async presets() {
    const { presets } = await import('../options/presets.js')
    return Object.entries(presets).map(([name, preset]) => ({ name, ...preset }))
  },
  async defaultSchedulerName(schedule) {
    const { defaultSchedulerName } = await import('../schedulers/index.js')
    return defaultSchedulerName(schedule)
  },
  async cores() {
    const { cpuInfo } = await import('../index.js')
    return cpuInfo().physicalCores
  },
  async devices(device, signal) {
    const { cpuInfo, DiffusionPipeline, listDevices } = await import('../index.js')
    if (device !== undefined) {
      const pipe = await DiffusionPipeline.load(undefined, { device, signal })
      await pipe.dispose()
    }
    return { ...(await listDevices()), cpu: cpuInfo() }
  },
}
