/** Formats numbers and tables as Markdown. */
export const mb = (bytes) => (bytes == null ? '' : `${Math.round(bytes / 1e6)} MB`)
export const s = (seconds) => (seconds == null ? '' : `${seconds.toFixed(seconds < 1 ? 3 : 2)} s`)
export const ms = (value) => `${value.toFixed(1)} ms`
export const percent = (part) => (part == null || Number.isNaN(part) ? '' : `${(100 * part).toFixed(1)} %`)
export const giga = (rate) => (rate == null ? '' : `${(rate / 1e9).toFixed(rate < 1e10 ? 1 : 0)}`)

export function table(head, rows) {
  const line = (cells) => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}

/** Finds the figures of a case with a model, unless it failed. */
export function finder(rows) {
  return (name, label) =>
    rows.find((row) => row.case === name && row.model === label && !row.point && !row.error)
}
