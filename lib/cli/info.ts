/** `node-diffusion info` and `node-diffusion schedulers`. */
import type { ModelSource } from '../native.js'
import { formatBytes } from '../memory.js'
import type { ModelDescription } from '../models/model-description.js'
import type { componentSummary } from '../models/summary.js'
import type { DeviceEstimate, Estimate } from '../pipeline/estimate.js'
import { printable } from '../quote.js'
import { formatSeconds } from './progress.js'
import type { Engine } from './engine.js'
import { deviceInfo } from './info-devices.js'
import { fetchModel } from './hub.js'
import type { InfoFlags } from './flags.js'
import { jsonLine, print, UsageError, type Terminal } from './terminal.js'

type Summary = ReturnType<typeof componentSummary>

interface ComponentInfo extends Summary {
  name: string
  config: object
}

export async function info(
  path: string | undefined,
  flags: InfoFlags,
  terminal: Terminal,
  engine: Engine,
): Promise<void> {
  if (flags.size === undefined) {
    if (flags.batch !== undefined) throw new UsageError('--batch needs --size, the size of the images')
    if (flags.lowMemory) throw new UsageError('--low-memory needs --size, the size of the image')
    if (flags.steps !== undefined) throw new UsageError('--steps needs --size, the size of the image')
    if (flags.cfg !== undefined) throw new UsageError('--cfg needs --size, the size of the image')
  }
  if (path === undefined) {
    if (flags.size) throw new UsageError('--size needs a model, whose memory is asked for')
    return deviceInfo(flags, terminal, engine)
  }
  path = await fetchModel(path, flags, terminal, engine)
  const model = await engine.openModel(path)
  const components = await describeComponents(model)
  const run = flags.size && {
    ...flags.size,
    batchSize: flags.batch ?? 1,
    ...(flags.cfg !== undefined && { guidanceScale: flags.cfg }),
  }
  const estimate = run && (await estimateRun(path, run, flags, terminal, engine))
  const { architecture, format, imageSize, schedule } = model
  const ownTokenizer = model.textEncoders.some(
    ({ tokenizer }) => tokenizer?.vocab ?? tokenizer?.tokenizerJson,
  )
  if (flags.json) {
    const tokenizer = ownTokenizer ? 'model' : 'built-in'
    const asked = estimate && { size: flags.size, batchSize: flags.batch ?? 1, ...estimate }
    const facts = {
      ...{ path, architecture, format, imageSize, schedule, tokenizer, components },
      ...(model.assumedPrediction && { predictionAssumed: true }),
    }
    await print(terminal, jsonLine({ ...facts, warnings: model.warnings ?? [], ...asked }))
    return
  }
  const lines = [
    ['model', path],
    ['architecture', architecture],
    ['format', format],
    ['image size', `${imageSize}×${imageSize}`],
    ['scheduler', await engine.defaultSchedulerName(schedule)],
    [
      'predicts',
      schedule.predictionType.replace('_', '-') +
        (model.assumedPrediction ? ' (assumed: loading finds it out)' : ''),
    ],
    ...components.map((c) => [c.name, describe(c)]),
    ...(model.textEncoders.length > 0
      ? [['tokenizer', ownTokenizer ? "the model's own" : 'built-in CLIP vocabulary']]
      : []),
    ...[...(model.warnings ?? []), ...(model.unused ?? [])].map((warning) => ['warning', warning]),
    ...(estimate
      ? estimateLines(estimate, `${flags.size!.width}×${flags.size!.height}`, flags.batch ?? 1)
      : []),
  ]
  const width = Math.max(...lines.map(([name]) => name.length))
  await print(
    terminal,
    lines.map(([name, value]) => `${name.padEnd(width)}  ${printable(value)}`.trimEnd() + '\n').join(''),
  )
}

export async function schedulers(
  flags: { json?: boolean },
  terminal: Terminal,
  engine: Engine,
): Promise<void> {
  const names = await engine.schedulerNames()
  await print(terminal, flags.json ? jsonLine([...names]) : names.map((name) => `${name}\n`).join(''))
}

export async function presets(flags: { json?: boolean }, terminal: Terminal, engine: Engine): Promise<void> {
  const all = await engine.presets()
  const width = Math.max(...all.map(({ name }) => name.length))
  const lines = all.map(
    ({ name, scheduler, steps, guidanceScale, about }) =>
      `${name.padEnd(width)}  ${scheduler}, steps ${steps}, cfg ${guidanceScale}: ${about}\n`,
  )
  await print(terminal, flags.json ? jsonLine(all) : lines.join(''))
}

async function describeComponents(model: ModelDescription): Promise<ComponentInfo[]> {
  const { componentSummary } = await import('../models/summary.js')
  const named: [string, { config: object; source: ModelSource } | undefined][] = [
    ...model.textEncoders.map((encoder, i): [string, typeof encoder] => [
      i === 0 ? 'text encoder' : `text encoder ${i + 1}`,
      encoder,
    ]),
    ['unet', model.unet],
    ['control net', model.controlNet],
    ['vae', model.vae],
    ['tiny vae', model.tinyVae],
    ['image encoder', model.unclip?.imageEncoder],
  ]
  return named.flatMap(([name, part]) =>
    part ? [{ name, ...componentSummary(part.source), config: part.config }] : [],
  )
}

function describe({ parameters, bytes, types }: ComponentInfo): string {
  const kinds =
    types.length > 1 ? types.map(({ type, tensors }) => `${type} ×${tensors}`) : types.map(({ type }) => type)
  return `${formatCount(parameters)} parameters, ${formatBytes(bytes)}, ${kinds.join(', ')}`
}

/** 859.5 million */
function formatCount(count: number): string {
  if (count >= 1e9) return `${(count / 1e9).toFixed(2)} billion`
  if (count >= 1e6) return `${(count / 1e6).toFixed(1)} million`
  return String(count)
}

/** Nothing is loaded, except where the device depends on what fits. */
async function estimateRun(
  path: string,
  run: { width: number; height: number; batchSize: number; guidanceScale?: number },
  { device, lowMemory, steps }: InfoFlags,
  { signal }: Terminal,
  engine: Engine,
): Promise<Estimate | DeviceEstimate> {
  if (device !== 'auto')
    return engine.estimate(
      path,
      { device, lowMemory, signal },
      { ...run, ...(steps !== undefined && { steps }) },
    )
  const pipe = await engine.load(path, { device, lowMemory, signal })
  try {
    return { memory: pipe.memoryNeeded(run) }
  } finally {
    await pipe.dispose()
  }
}

function estimateLines(
  { memory, seconds }: Estimate | DeviceEstimate,
  size: string,
  batch: number,
): string[][] {
  const what = `${batch > 1 ? `${batch} × ` : ''}${size}`
  return [
    ['', ''],
    [`memory for ${what}`, formatBytes(memory.total)],
    ['  weights', formatBytes(memory.weights)],
    ['  working memory', formatBytes(memory.working)],
    ...(seconds
      ? [
          [`time for ${what}`, `about ${formatTime(seconds.total)}`],
          ['  text encoder', formatTime(seconds.text)],
          ['  each step', formatTime(seconds.step)],
          ['  autoencoder', formatTime(seconds.decode)],
        ]
      : []),
  ]
}

/** 0.035 s, 1.2 s, 75 s, 4:05 */
function formatTime(seconds: number): string {
  return seconds < 10 ? `${Number(seconds.toPrecision(2))} s` : formatSeconds(seconds)
}
