/** Which cases to run with which models and options. Each job is one process. */
import { UsageError } from './options.mjs'

const resolutions = [256, 384, 512, 768, 1024]
const batches = [1, 2, 4]

/** Names that --only takes besides those of the cases. */
export const extras = {
  kernels: 'kernels in percent of the measured peak, one thread',
  scaling: 'UNet at several resolutions, batch sizes and numbers of threads (--scaling)',
}

/** The model whose scaling is measured: the quantized one, as on the devices where scaling matters. */
export function scalingModel(models) {
  return models.find(({ label }) => label === 'q8_0') ?? models[0]
}

function scalingJobs(options) {
  const model = scalingModel(options.models)
  const threads = options.threads ?? Math.min(2, options.processors)
  const base = { size: options.size, batch: 1, threads }
  const points = [
    ...resolutions.map((size) => ({ ...base, size })),
    ...batches.map((batch) => ({ ...base, batch })),
    ...[1, 2].filter((n) => n <= options.processors).map((n) => ({ ...base, threads: n })),
  ]
  const keys = new Set()
  const jobs = []
  for (const point of points) {
    const key = Object.values(point).join('/')
    if (keys.has(key)) continue
    keys.add(key)
    jobs.push({
      name: 'unet',
      model,
      point,
      title: `UNet, ${point.size}², batch ${point.batch}, ${point.threads} threads`,
    })
  }
  return jobs
}

/**
 * @returns {{ name: string, title: string, model?: object, point?: object }[]}
 * @throws UsageError for unknown cases, or cases whose model was not given
 */
export function planJobs(cases, options) {
  const { models, only } = options
  for (const name of only ?? [])
    if (!(name in cases) && !(name in extras))
      throw new UsageError(
        `Expected one of ${[...Object.keys(cases), ...Object.keys(extras)].join(', ')} for --only but received ${name}`,
      )
  const wanted = (name, { of, group }) => {
    if (only) return only.includes(name)
    if (of !== 'bundled' && models.length === 0) return false
    return group === undefined || options[group]
  }
  const jobs = []
  for (const [name, of] of Object.entries(cases)) {
    if (!wanted(name, of)) continue
    if (of.of !== 'bundled' && models.length === 0) throw new UsageError(`Expected --model PATH for ${name}`)
    if (of.group === 'tinyVae' && !options.tinyVae)
      throw new UsageError(`Expected --tiny-vae PATH for ${name}`)
    if (of.group === 'controlNet' && !options.controlNet)
      throw new UsageError(`Expected --control-net PATH for ${name}`)
    if (of.of === 'each') for (const model of models) jobs.push({ name, model, title: of.title })
    else if (of.of === 'first') jobs.push({ name, model: models[0], title: of.title })
    else jobs.push({ name, title: of.title })
  }
  if (only ? only.includes('scaling') : options.scaling) {
    if (models.length === 0) throw new UsageError('Expected --model PATH for scaling')
    jobs.push(...scalingJobs(options))
  }
  return jobs
}
