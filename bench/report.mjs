/** Results as Markdown, and the section of docs/benchmarks.md. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'

const mb = (bytes) => (bytes === undefined ? '' : `${Math.round(bytes / 1e6)} MB`)
const s = (seconds) => (seconds == null ? '' : `${seconds < 1 ? seconds.toFixed(3) : seconds.toFixed(2)} s`)
const ms = (value) => `${value.toFixed(1)} ms`

export function table(head, rows) {
  const line = (cells) => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}

/** What a case's figures say beyond its time and peak. */
function remarks(row) {
  const parts = []
  if (row.error) parts.push(row.error)
  if (row.workingBytes !== undefined) parts.push(`working memory ${mb(row.workingBytes)}`)
  if (row.boundBytes !== undefined) {
    parts.push(
      `bound: weights + 700 MB = ${mb(row.boundBytes)}${row.peakRss > row.boundBytes ? ' **exceeded**' : ''}`,
    )
  }
  if (row.growthBytes !== undefined)
    parts.push(`${mb(row.rssFirstBytes)} after the first tenth, ${mb(row.rssLastBytes)} at the end`)
  if (row.delayP99Ms !== undefined)
    parts.push(`delay: p99 ${ms(row.delayP99Ms)}, longest ${ms(row.delayMaxMs)}`)
  if (row.latencyMaxMs !== undefined) {
    parts.push(`${row.aborted} aborts: median ${ms(row.latencyMedianMs)}, longest ${ms(row.latencyMaxMs)}`)
  }
  if (row.secondsToLoaded !== undefined)
    parts.push(`loaded after ${s(row.secondsToLoaded)}, PNG after ${s(row.secondsToPng)}`)
  return parts.join('; ')
}

export function machine() {
  const [cpu] = cpus()
  return `${cpu?.model.trim() ?? process.arch}, ${cpus().length} logical CPUs, ${Math.round(totalmem() / 2 ** 30)} GiB, ${process.platform}, Node ${process.version}`
}

/** @param {{ rows: any[], peers: any[], kernels: string, peak?: any, options: any, cpu: any }} results */
export function markdown({ rows, peers, kernels, peak, options, cpu }) {
  const { size, batch, repeat } = options
  const parts = [
    `${machine()}. Kernels ${cpu.kernel}, ${cpu.threads} threads; ${size}×${size}, batch ${batch}, best of ${repeat}.`,
  ]
  if (peak) parts.push(`Measured peak of one thread: ${peak}.`)
  parts.push(
    table(
      ['case', 'time', 'weights', 'peak RSS', ''],
      rows.map((row) => [
        row.title,
        s(row.wallSeconds ?? row.seconds),
        mb(row.weightBytes),
        mb(row.peakRss),
        remarks(row),
      ]),
    ),
  )
  if (peers.length > 0)
    parts.push('Ours ÷ theirs, same machine, in turn (below 1: we are faster, smaller).', ratios(rows, peers))
  if (kernels) parts.push('Kernels, one thread:', '```\n' + kernels.trim() + '\n```')
  return parts.join('\n\n')
}

/** Our peak where the peers have theirs: in one process with all three components. */
function ratios(rows, peers) {
  const find = (name) => rows.find((row) => row.case === name)
  const ours = {
    unet_s: find('unet')?.seconds,
    vae_decode_s: find('vae-decode')?.seconds,
    text_encode_s: find('text')?.seconds,
    load_s: find('load')?.seconds,
    peak_rss_mb: find('memory-generate') && find('memory-generate').peakRss / 2 ** 20,
  }
  const cell = (peer, key) => {
    if (peer[key] == null) return ''
    const theirs = key === 'peak_rss_mb' ? `${peer[key]} MiB` : s(peer[key])
    return ours[key] == null ? theirs : `${(ours[key] / peer[key]).toFixed(2)} (${theirs})`
  }
  const keys = Object.keys(ours)
  const head = ['peer', 'UNet', 'VAE decode', 'text', 'load', 'peak RSS']
  return table(head, peers.map((peer) => [peer.peer, ...keys.map((key) => cell(peer, key))])) // prettier-ignore
}

/** Puts a section under its heading into the file, in place of one of the same heading, else before the others. */
export function writeSection(file, heading, body) {
  const text = existsSync(file) ? readFileSync(file, 'utf8') : '# Benchmarks\n'
  const section = `## ${heading}\n\n${body}\n`
  const starts = [...text.matchAll(/^## .*$/gm)].map((match) => ({
    at: match.index,
    heading: match[0].slice(3),
  }))
  const same = starts.findIndex((start) => start.heading === heading)
  const begin = same >= 0 ? starts[same].at : (starts[0]?.at ?? text.length)
  const end = same >= 0 ? (starts[same + 1]?.at ?? text.length) : begin
  const before = text.slice(0, begin).trimEnd()
  const after = text.slice(end).trim()
  writeFileSync(file, `${before}\n\n${section}${after === '' ? '' : `\n${after}\n`}`)
}
