/** What the command line needs of the library; tests put a stand-in here. */
import type { DiffusionPipeline, ModelInfo } from '../pipeline/diffusion-pipeline.js'
import type { LoadOptions } from '../options.js'
import type { Scheduler } from '../types.js'
import type { ModelDescription, ScheduleDescription } from '../weights/model-description.js'

export type CliPipeline = Pick<DiffusionPipeline, 'generate' | 'memoryNeeded' | 'dispose'> & {
  readonly model: Pick<ModelInfo, 'schedule'>
}

export interface Engine {
  load(path: string | undefined, options: LoadOptions): Promise<CliPipeline>
  openModel(path: string): Promise<ModelDescription>
  schedulerNames(): Promise<readonly string[]>
  /** A scheduler with an eta: the one thing of it that generate() has no option for. */
  scheduler(name: string, steps: number, schedule: ScheduleDescription, eta: number): Promise<Scheduler>
}

/** The library itself, imported when it is needed: `--help` must not wait for an addon. */
export const library: Engine = {
  async load(path, options) {
    const { DiffusionPipeline } = await import('../index.js')
    return DiffusionPipeline.load(path, options)
  },
  async openModel(path) {
    const { openModel } = await import('../weights/index.js')
    return openModel(path)
  },
  async schedulerNames() {
    const { schedulerNames } = await import('../schedulers/index.js')
    return schedulerNames
  },
  async scheduler(name, steps, schedule, eta) {
    const { createScheduler } = await import('../schedulers/index.js')
    return createScheduler(name as Parameters<typeof createScheduler>[0], steps, schedule, { eta })
  },
}
