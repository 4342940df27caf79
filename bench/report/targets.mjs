/** Targets: ratios to peers, times, memory and quality that the project promises, and whether they are met. */
import { finder, mb, percent, s, table } from './format.mjs'

/** Our time divided by a peer's in the same run. `limit` must not be exceeded, `goal` is what we aim for. */
const ratios = [
  {
    what: 'UNet forward, q8_0',
    ours: ['unet', 'q8_0'],
    theirs: ['openvino-int8', 'unet_s'],
    limit: 0.9,
    goal: 0.7,
  },
  {
    what: 'UNet forward, bf16',
    ours: ['unet', 'bf16'],
    theirs: ['openvino-bf16', 'unet_s'],
    limit: 0.95,
    goal: 0.75,
  },
  {
    what: 'UNet forward, f32',
    ours: ['unet', 'f32'],
    theirs: ['openvino-f32', 'unet_s'],
    limit: 0.95,
    goal: 0.7,
  },
  {
    what: 'VAE decode, default precision (of the q8_0 file)',
    ours: ['vae-decode', 'q8_0'],
    theirs: ['openvino-bf16', 'vae_decode_s'],
    limit: 0.6,
    goal: 0.4,
  },
  ...[
    ['UNet forward', ['unet', 'sdxl-bf16'], ['torch-bf16', 'unet_s'], 0.76, 0.68],
    ['UNet forward', ['unet', 'sdxl-q8_0'], ['torch-bf16', 'unet_s'], 0.45, 0.38],
    ['UNet forward', ['unet', 'sdxl-q8_0'], ['openvino-bf16', 'unet_s'], 0.68, 0.6],
    ['VAE decode', ['vae-decode', 'sdxl-bf16'], ['torch-bf16', 'vae_decode_s'], 0.45, 0.4],
    ['both text encoders', ['text', 'sdxl-bf16'], ['torch-bf16', 'text_encode_s'], 0.8, 0.7],
  ].map(([what, ours, theirs, limit, goal]) => ({ what: `${what}, ${ours[1]}`, ours, theirs, limit, goal })),
]

const own = [
  { what: 'UNet forward, q4_0', label: 'q4_0', limit: 1.1, goal: 1 },
  { what: 'UNet forward, q4_K', label: 'q4_k', limit: 1.1, goal: 1 },
]

const memory = [
  { what: '512×512 on q4_0, peak RSS', of: ['memory', 'q4_0'], limit: 900e6 },
  { what: '512×512 on q8_0, peak RSS', of: ['memory', 'q8_0'], limit: 1400e6 },
  { what: '512×512 on q8_0 with lowMemory, peak RSS', of: ['memory-low', 'q8_0'], limit: 450e6 },
]

const pictureQuality = { bf16: 40, q8_0: 34, q4_k: 26 } // dB at least
const predictionError = { bf16: 0.01, q8_0: 0.02, q4_0: 0.12 } // relative L2 at most

/** The int8 GEMM kernel on the UNet's shapes: rate over all of them, and the rates of the 3×3 convolutions. */
function int8Kernel(measured) {
  const rows = (measured.kernels ?? []).filter((row) => row.name.startsWith('gemm-i8 unet') && row.part > 0)
  if (rows.length === 0) return undefined
  const time = rows.reduce((sum, row) => sum + row.seconds, 0)
  const operations = rows.reduce((sum, row) => sum + row.seconds * row.rate, 0)
  const convolutions = rows.filter((row) => /unet conv /.test(row.name)).map((row) => row.part)
  return { part: operations / time / measured.peaks.int8, convolutions }
}

export function targets({ rows, peers, measured, scaled }) {
  const find = finder(rows)
  const lines = []
  const add = (what, limit, goal, found, met) =>
    lines.push([what, limit, goal, found, met ? 'yes' : '**no**'])
  const ratio = (what, ours, theirs, name, { limit, goal }) => {
    const value = ours / theirs
    add(what, `≤ ${limit.toFixed(2)} × ${name}`, goal.toFixed(2), `${value.toFixed(2)} (${s(ours)} ÷ ${s(theirs)})`, value <= limit) // prettier-ignore
  }
  for (const target of ratios) {
    const ours = find(...target.ours)?.seconds
    const theirs = peers.find((row) => row.peer === target.theirs[0])?.[target.theirs[1]]
    if (ours && theirs) ratio(target.what, ours, theirs, target.theirs[0], target)
  }
  const q8 = find('unet', 'q8_0')?.seconds
  for (const target of own) {
    const ours = find('unet', target.label)?.seconds
    if (ours && q8) ratio(target.what, ours, q8, 'our q8_0', target)
  }
  const at = (size) =>
    rows.find(
      (row) => row.point?.size === size && row.point.batch === 1 && row.model === scaled && !row.error,
    )
  if (at(512) && at(768)) {
    const deviation = at(768).seconds / at(512).seconds / (at(768).operations / at(512).operations) - 1
    const found = `${deviation >= 0 ? '+' : '−'}${percent(Math.abs(deviation))}`
    add('UNet forward at 768×768, relative to 512×512', '±15 % of the operation counts', '', found, Math.abs(deviation) <= 0.15) // prettier-ignore
  }
  const load = find('load', 'q8_0')?.firstStepSeconds
  if (load) add('q8_0: load from the page cache to the first step', '≤ 1.0 s', '0.3 s', s(load), load <= 1)
  const turbo = find('turbo', 'q8_0')?.seconds
  if (turbo) add('one step, tiny autoencoder, q8_0', '≤ 1.6 s', '', s(turbo), turbo <= 1.6)
  for (const row of rows.filter(({ case: name, error }) => name === 'control' && !error)) {
    const share = row.stepWithControlSeconds / row.stepSeconds - 1
    add(`ControlNet, ${row.model}`, '≤ 0.55 × our UNet', '', share.toFixed(2), share <= 0.55)
  }
  const kernel = int8Kernel(measured)
  if (kernel) {
    const found = `${percent(kernel.part)}; 3×3 convolutions ${percent(Math.min(...kernel.convolutions))} to ${percent(Math.max(...kernel.convolutions))}`
    add(
      'int8 GEMM kernel on the UNet’s shapes',
      '≥ 85 % of the int8 peak',
      '92 %',
      found,
      kernel.part >= 0.85,
    )
  }
  for (const { what, of, limit } of memory) {
    const peak = find(...of)?.peakRss
    if (peak) add(what, `≤ ${mb(limit)}`, '', mb(peak), peak <= limit)
  }
  for (const { name, psnrMean } of find('quality-pictures')?.quality ?? []) {
    const limit = pictureQuality[name]
    if (limit)
      add(`PSNR of 20 pictures, ${name}`, `≥ ${limit} dB`, '', `${psnrMean.toFixed(1)} dB`, psnrMean >= limit)
  }
  for (const { name, relativeError } of find('quality-prediction')?.quality ?? []) {
    const limit = predictionError[name]
    if (limit)
      add(
        `error of one UNet prediction, ${name}`,
        `≤ ${percent(limit)}`,
        '',
        percent(relativeError),
        relativeError <= limit,
      )
  }
  for (const { name, cosine } of find('quality-lora')?.quality ?? [])
    add(`direction of a LoRA, ${name}`, '≥ 0.95', '', cosine.toFixed(3), cosine >= 0.95)
  return lines.length === 0 ? '' : table(['target', 'limit', 'goal', 'measured', 'met'], lines)
}
