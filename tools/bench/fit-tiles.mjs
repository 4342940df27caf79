/**
 * `node tools/bench/fit-tiles.mjs device-check.json`: fits the constants of the model of products' times to what
 * `cuda-bench kernels` has measured of every tile, and prints them next to those that it was built with: TileTimes of
 * cpp/cuda/tile_times.h ("halves", "int8") and the tiles of cpp/cuda/hopper_times.h ("wgmma").
 */
import { readFileSync } from 'node:fs'

const names = ['latency', 'step', 'block']

/** Microseconds of a run, as cost_of_blocks() in cpp/cuda/layers/product_plan.cpp has them without the sum of splits. */
function modelled(run, time, multiprocessors) {
  const each = Math.ceil(run.blocks / multiprocessors)
  const round = (resident) => run.steps * Math.max(time.latency, resident * time.step) + time.block
  const rest = each % time.resident
  return Math.floor(each / time.resident) * round(time.resident) + (rest ? round(rest) : 0)
}

/** The mean of squares of logarithms, which large and small products count in alike. */
function error(runs, time, multiprocessors) {
  return (
    runs.reduce((sum, run) => sum + Math.log(modelled(run, time, multiprocessors) / run.us) ** 2, 0) /
    runs.length
  )
}

/** Changes one constant at a time for as long as that helps, by smaller and smaller factors. */
function fit(runs, start, multiprocessors) {
  let best = { ...start }
  let least = error(runs, best, multiprocessors)
  for (let factor = 1.5; factor > 1.001;) {
    let better = false
    for (const name of names)
      for (const by of [factor, 1 / factor]) {
        const other = { ...best, [name]: best[name] * by }
        const found = error(runs, other, multiprocessors)
        if (found < least) [best, least, better] = [other, found, true]
      }
    if (!better) factor = Math.sqrt(factor)
  }
  return best
}

/** Least squares of y = base + slope · x with weights, neither below 0. */
function line(points) {
  const sum = (f) => points.reduce((total, point) => total + point.weight * f(point), 0)
  const [w, x, y, xx, xy] = [() => 1, (p) => p.x, (p) => p.y, (p) => p.x * p.x, (p) => p.x * p.y].map(sum)
  const slope = Math.max(0, (w * xy - x * y) / (w * xx - x * x))
  return { base: Math.max(0, (y - slope * x) / w), slope }
}

const show = (time) =>
  `{${time.resident}, ${names.map((name) => Number(time[name].toPrecision(3))).join(', ')}}`
const percent = (meanSquare) => `${(100 * (Math.exp(Math.sqrt(meanSquare)) - 1)).toFixed(1)} %`

const [path] = process.argv.slice(2)
if (path === undefined) {
  console.error('Usage: node tools/bench/fit-tiles.mjs device-check.json')
  process.exit(2)
}
const file = JSON.parse(readFileSync(path, 'utf8'))
const report = file.kernels && !Array.isArray(file.kernels) ? file.kernels : file
const multiprocessors = Number(report.multiprocessors)
const [tiles, runs] = [report['tile times'], report['tile runs']]
if (!(multiprocessors > 0) || !tiles || !runs) {
  console.error(
    `Expected multiprocessors, "tile times" and "tile runs" in ${path}, as cuda-bench kernels writes them`,
  )
  process.exit(1)
}
console.log(`${report.device}, ${multiprocessors} multiprocessors: {resident, latency, step, block}`)
const splits = []
for (const { name, ...time } of tiles) {
  const own = runs.filter((run) => run.name.startsWith(`${name}: `))
  const whole = own.filter((run) => run.splits === 1)
  if (whole.length < 2 * names.length) {
    console.log(`${name}: ${whole.length} runs are too few`)
    continue
  }
  const fitted = fit(whole, time, multiprocessors)
  const before = percent(error(whole, time, multiprocessors))
  const after = percent(error(whole, fitted, multiprocessors))
  console.log(
    `${name}: ${show(time)}, off by ${before} → ${show(fitted)}, off by ${after}, ${whole.length} runs`,
  )
  for (const run of own)
    if (run.splits > 1)
      splits.push({
        x: run.partial,
        y: run.us - modelled(run, fitted, multiprocessors),
        weight: 1 / run.us ** 2,
      })
}
if (splits.length > 1) {
  const { base, slope } = line(splits)
  console.log(
    `kSplitTime ${Number(base.toPrecision(3))}, kPartialTime ${Number((slope * 6e6).toPrecision(3))} / 6e6, ` +
      `${splits.length} runs`,
  )
}
