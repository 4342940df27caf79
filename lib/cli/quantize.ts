/** `node-diffusion quantize` and `merge`: write a model and report the error. */
import { formatBytes } from '../memory.js'
import type { MergeOptions, MergeReport, QuantizeOptions, QuantizeReport } from '../quantize/index.js'
import { printable, shorten } from '../quote.js'
import type { Engine } from './engine.js'
import { fetchModel } from './hub.js'
import type { MergeFlags, QuantizeFlags } from './flags.js'
import { createProgress, silent } from './progress.js'
import { jsonLine, print, type Terminal } from './terminal.js'

export async function quantize(
  input: string,
  output: string,
  { type, rules, ...flags }: QuantizeFlags,
  terminal: Terminal,
  engine: Engine,
): Promise<void> {
  const label = `Quantizing to ${printable(shorten(type))}`
  const report = await write(input, label, flags, terminal, engine, (model, progress) =>
    // The library checks the type.
    engine.quantize(model, output, { ...progress, type: type as QuantizeOptions['type'], rules }),
  )
  if (flags.json) return print(terminal, jsonLine(report))
  if (!flags.quiet) await print(terminal, table(report) + notes(report, flags.verbose === true))
}

export async function merge(
  input: string,
  output: string,
  { lora, type, rules, ...flags }: MergeFlags,
  terminal: Terminal,
  engine: Engine,
): Promise<void> {
  const report = await write(input, 'Merging', flags, terminal, engine, (model, progress) =>
    engine.merge(model, output, { ...progress, loras: lora, type: type as MergeOptions['type'], rules }),
  )
  if (flags.json) return print(terminal, jsonLine(report))
  const verbose = flags.verbose === true
  if (!flags.quiet)
    await print(terminal, table(report) + adapterLines(report, verbose) + notes(report, verbose))
}

/** Opens the model and writes another one, with progress on the terminal. */
async function write<Report>(
  input: string,
  label: string,
  flags: { quiet?: boolean; json?: boolean },
  terminal: Terminal,
  engine: Engine,
  writeModel: (model: string, options: Pick<MergeOptions, 'signal' | 'onProgress'>) => Promise<Report>,
): Promise<Report> {
  const progress = flags.quiet || flags.json ? silent : await createProgress(terminal.stderr)
  let percent = 0
  const onProgress: MergeOptions['onProgress'] = ({ done, total }) => {
    const now = Math.floor((100 * done) / total)
    if (now > percent) progress.step((percent = now), 100, label)
  }
  try {
    const model = await fetchModel(input, flags, terminal, engine, progress)
    progress.phase('Reading the model')
    return await writeModel(model, { signal: terminal.signal, onProgress })
  } finally {
    progress.stop()
  }
}

/** What each file changed. */
function adapterLines({ adapters }: MergeReport, verbose: boolean): string {
  const lines = adapters.flatMap(({ path, kind, scale, applied, unplaced }) => {
    const more = verbose ? unplaced.map((name) => `  ${printable(name)}`) : []
    const without = unplaced.length > 0 ? `, warning: ${unplaced.length} without a place` : ''
    return [`${printable(path)}: ${kind}, scale ${scale}, ${applied} tensors applied${without}`, ...more]
  })
  return ['', ...lines].map((line) => `${line}\n`).join('')
}

/** What both reports have. */
type Written = Omit<QuantizeReport, 'type'>

function table({ groups, parameters, bytesBefore, bytesAfter, error }: Written): string {
  const total = { name: 'all', parameters, bytesBefore, bytesAfter, error, types: [] }
  const rows = [
    ['', 'parameters', 'before', 'after', 'error', 'stored as'],
    ...[...groups, total].map((g) => [
      g.name,
      `${(g.parameters / 1e6).toFixed(g.parameters < 1e5 ? 3 : 1)} M`,
      formatBytes(g.bytesBefore),
      formatBytes(g.bytesAfter),
      `${(100 * g.error).toFixed(2)} %`,
      g.types.map(({ type, tensors }) => `${type} ×${tensors}`).join(', '),
    ]),
  ]
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)))
  const numbers = (column: number): boolean => column > 0 && column < 5
  const line = (row: string[]): string =>
    row
      .map((cell, i) => (numbers(i) ? cell.padStart(widths[i]) : cell.padEnd(widths[i])))
      .join('  ')
      .trimEnd()
  return rows.map((row) => `${line(row)}\n`).join('')
}

function notes({ output, fileBytes, fallbacks, unusedRules }: Written, verbose: boolean): string {
  const lines = ['']
  for (const { wanted, type, block, tensors } of fallbacks) {
    const names = verbose ? tensors.map((name) => `\n  ${printable(name)}`).join('') : ''
    const what = `${tensors.length} ${tensors.length === 1 ? 'tensor' : 'tensors'}`
    lines.push(`${what} with rows that do not fill ${wanted}'s blocks of ${block}: stored as ${type}${names}`)
  }
  for (const rule of unusedRules)
    lines.push(`warning: the rule ${printable(shorten(rule))} matches no tensor`)
  lines.push(`${printable(output)}: ${formatBytes(fileBytes)}`)
  return lines.map((line) => `${line}\n`).join('')
}
