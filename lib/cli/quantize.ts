/** `node-diffusion quantize`: writes a smaller model and reports the error. */
import { formatBytes } from '../memory.js'
import type { QuantizeOptions, QuantizeReport } from '../quantize/index.js'
import { printable, shorten } from '../quote.js'
import type { Engine } from './engine.js'
import { fetchModel } from './hub.js'
import type { QuantizeFlags } from './program.js'
import { createProgress, silent } from './progress.js'
import { jsonLine, print, type Terminal } from './terminal.js'

export async function quantize(
  input: string,
  output: string,
  flags: QuantizeFlags,
  terminal: Terminal,
  engine: Engine,
): Promise<void> {
  const progress = flags.quiet || flags.json ? silent : await createProgress(terminal.stderr)
  let percent = 0
  const label = `Quantizing to ${printable(shorten(flags.type))}`
  const options: QuantizeOptions = {
    // The library checks the type.
    type: flags.type as QuantizeOptions['type'],
    rules: flags.rules,
    signal: terminal.signal,
    onProgress({ done, total }) {
      const now = Math.floor((100 * done) / total)
      if (now > percent) progress.step((percent = now), 100, label)
    },
  }
  let report: QuantizeReport
  try {
    const model = await fetchModel(input, flags, terminal, engine, progress)
    progress.phase('Reading the model')
    report = await engine.quantize(model, output, options)
  } finally {
    progress.stop()
  }
  if (flags.json) return print(terminal, jsonLine(report))
  if (!flags.quiet) await print(terminal, table(report) + notes(report, flags.verbose === true))
}

function table({ groups, parameters, bytesBefore, bytesAfter, error }: QuantizeReport): string {
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

function notes({ output, fileBytes, fallbacks, unusedRules }: QuantizeReport, verbose: boolean): string {
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
