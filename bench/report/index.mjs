/** Formats results as Markdown, and writes the section of docs/benchmarks.md. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import {
  acceleration,
  estimates,
  kernels,
  layers,
  models,
  peers,
  quality,
  rest,
  scaling,
} from './sections.mjs'
import { targets } from './targets.mjs'

export function machine() {
  const [cpu] = cpus()
  return `${cpu?.model.trim() ?? process.arch}, ${cpus().length} logical CPUs, ${Math.round(totalmem() / 2 ** 30)} GiB, ${process.platform}, Node ${process.version}`
}

/** @param {object} results what run.mjs writes to results.json */
export function markdown(results) {
  const { size, batch, repeat, rounds } = results.options
  const { kernel, threads } = results.cpu
  return [
    `${results.machine}. Kernels ${kernel}, ${threads} threads; ${size}×${size}, batch ${batch}, best of ${repeat}${rounds > 1 ? ` in each of ${rounds} rounds` : ''}, each case in a process of its own.`,
    ...[targets, models, peers, layers, estimates, scaling, quality, acceleration, rest, kernels].map(
      (part) => part(results),
    ),
  ]
    .filter(Boolean)
    .join('\n\n')
}

/** Writes a section to the file: in place of the one with the same heading, or before all others. */
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
