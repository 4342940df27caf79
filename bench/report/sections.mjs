/** The parts of a report; each is '' where nothing of it was measured. */
import { finder, giga, mb, ms, percent, s, table } from './format.mjs'

const some = (rows, render) => (rows.length === 0 ? '' : render(rows))

/** Every model in one line: times, weights and memory of its components and of a whole picture. */
export function models({ rows, options }) {
  const find = finder(rows)
  const head = ['model', 'weights', 'load', 'to the first step', 'text', 'UNet', 'VAE encode', 'VAE decode', 'peak RSS of a picture', 'lowMemory'] // prettier-ignore
  const lines = options.models.map(({ label }) => [
    label,
    mb((find('memory', label) ?? find('load', label))?.weightBytes),
    s(find('load', label)?.seconds),
    s(find('load', label)?.firstStepSeconds),
    ...['text', 'unet', 'vae-encode', 'vae-decode'].map((name) => s(find(name, label)?.seconds)),
    mb(find('memory', label)?.peakRss),
    mb(find('memory-low', label)?.peakRss),
  ])
  return some(
    lines.filter((cells) => cells.slice(1).some((cell) => cell !== '')),
    (full) => table(head, full),
  )
}

const partners = {
  'torch-fp32': ['f32'],
  'torch-bf16': ['bf16'],
  'openvino-f32': ['f32'],
  'openvino-bf16': ['bf16'],
  'openvino-int8': ['q8_0', 'int8'],
}

/** Ours ÷ theirs, each peer beside our model of its precision, else beside the first. */
export function peers({ rows, peers, options }) {
  const find = finder(rows)
  const labels = options.models.map(({ label }) => label)
  return some(peers, () => {
    const lines = peers.map((peer) => {
      if (peer.error) return [peer.peer, '', peer.error, '', '', '', '']
      const label = partners[peer.peer]?.find((name) => labels.includes(name)) ?? labels[0]
      const cell = (theirs, ours, show) =>
        theirs == null ? '' : ours == null ? show(theirs) : `${(ours / theirs).toFixed(2)} (${show(theirs)})`
      const memory = peer.peak_rss_mb == null ? undefined : peer.peak_rss_mb * 2 ** 20
      return [
        peer.peer,
        label ?? '',
        cell(peer.unet_s, find('unet', label)?.seconds, s),
        cell(peer.vae_decode_s, find('vae-decode', label)?.seconds, s),
        cell(peer.text_encode_s, find('text', label)?.seconds, s),
        cell(peer.load_s, find('load', label)?.seconds, s),
        cell(memory, find('memory', label)?.peakRss, mb),
      ]
    })
    return `Ours ÷ theirs in the same run (in brackets theirs; below 1: we are faster, smaller).\n\n${table(['peer', 'ours', 'UNet', 'VAE decode', 'text', 'load', 'peak RSS'], lines)}`
  })
}

/** Where a UNet forward's time goes. */
export function layers({ rows, measured, cpu }) {
  const profiled = rows.filter((row) => row.layers)
  return some(profiled, () => {
    const lines = profiled.flatMap((row) =>
      row.layers
        .filter((layer) => layer.seconds >= 0.002 * row.seconds)
        .map((layer) => {
          const rate = layer.operations > 0 ? layer.operations / layer.seconds : undefined
          const peak = measured.peaksAllThreads?.[layer.compute]
          return [
            row.model,
            layer.kind,
            rate ? layer.compute : '',
            ms(1000 * layer.seconds),
            percent(layer.seconds / row.seconds),
            giga(rate),
            rate && peak ? percent(rate / peak) : '',
          ]
        }),
    )
    return `Where a UNet forward’s time goes (${cpu.threads} threads; operations as they are computed: Winograd’s and folded upsampling’s fewer ones).\n\n${table(['model', 'layers', 'multiplies', 'time', 'of the forward', 'GFLOP/s', 'of the peak'], lines)}`
  })
}

const kinds = [
  ['f32', 'gemm ', 'attention '],
  ['bf16', 'gemm-bf16 ', 'attention-bf16 '],
  ['int8', 'gemm-i8 ', 'attention-i8 '],
]

/** Every kernel on the shapes of real layers, one thread: GFLOP/s and part of the peak of what it multiplies. */
export function kernels({ measured, cpu }) {
  return some(measured.kernels ?? [], (all) => {
    const products = new Map()
    for (const row of all) {
      for (const [column, ...prefixes] of kinds) {
        const prefix = prefixes.find((text) => row.name.startsWith(text))
        if (!prefix) continue
        const shape = `${prefix.startsWith('attention') ? 'attention ' : ''}${row.name.slice(prefix.length)}`
        const cells = products.get(shape) ?? {}
        cells[column] = `${giga(row.rate)} (${percent(row.part)})`
        products.set(shape, cells)
      }
    }
    const head = ['layer, rows × columns × depth', ...kinds.map(([column]) => `${column}, GFLOP/s`)]
    const lines = [...products].map(([shape, cells]) => [
      shape,
      ...kinds.map(([column]) => cells[column] ?? ''),
    ])
    const rest = all.filter((row) => row.bandwidth).map((row) => [row.name, `${giga(row.bandwidth)} GB/s`])
    const peaks = Object.entries(measured.peaks).map(([compute, peak]) => `${compute} ${giga(peak)}`)
    return [
      `Kernels (${cpu.kernel}), one thread. Its measured peaks: ${peaks.join(', ')} GFLOP/s.`,
      table(head, lines),
      table(['bound by memory', 'read and written'], rest),
    ].join('\n\n')
  })
}

/** Measured time against what the operation counts predict, each axis from its own base. */
export function scaling({ rows, scaled, options }) {
  const points = rows.filter((row) => row.point && !row.error)
  return some(points, () => {
    const threads = Math.max(...points.map((row) => row.point.threads))
    const isBase = ({ point }) =>
      point.size === options.size && point.batch === 1 && point.threads === threads
    const base = points.find(isBase)
    const lines = points.map((row) => {
      const { size, batch, threads: used } = row.point
      const counted = base && (row.operations / base.operations) * (threads / used)
      const ratio = base && row.seconds / base.seconds
      return [
        `${size}×${size}`,
        batch,
        used,
        s(row.seconds),
        `${(row.operations / 1e9).toFixed(0)}`,
        giga(row.operations / row.seconds),
        base ? counted.toFixed(2) : '',
        base ? ratio.toFixed(2) : '',
        base ? percent(ratio / counted - 1) : '',
      ]
    })
    return `UNet of ${scaled} against resolution, batch and threads. Predicted from the operation counts (of a direct computation); perfect scaling over threads.\n\n${table(['size', 'batch', 'threads', 'time', 'GFLOP', 'GFLOP/s', 'predicted ×', 'measured ×', 'off by'], lines)}`
  })
}

/** What the options that leave work out save, and how far their pictures are from those without. */
export function acceleration({ rows }) {
  const pictures = finder(rows)('accel-pictures')?.acceleration ?? []
  const full = rows.filter((row) => row.case === 'accel' && !row.error)
  const names = (full[0]?.acceleration ?? pictures).map(({ name }) => name)
  return some(names, () => {
    const head = [
      '20 steps with guidance, against those without the option',
      ...full.map((row) => `time, ${row.model}`),
      ...(pictures.length > 0 ? ['model in the box: time', 'PSNR, mean', 'worst'] : []),
    ]
    const lines = names.map((name) => {
      const drawn = pictures.find((row) => row.name === name)
      return [
        name,
        ...full.map((row) => row.acceleration.find((one) => one.name === name).ratio.toFixed(2)),
        ...(drawn
          ? [drawn.ratio.toFixed(2), `${drawn.psnrMean.toFixed(1)} dB`, `${drawn.psnrWorst.toFixed(1)} dB`]
          : []),
      ]
    })
    return table(head, lines)
  })
}

export function quality({ rows }) {
  const find = finder(rows)
  const pictures = find('quality-pictures')?.quality ?? []
  const predictions = find('quality-prediction')?.quality ?? []
  return [
    some(pictures, () =>
      table(
        ['pictures of the model in the box, 20 prompts, 20 steps, against f32', 'PSNR, mean', 'worst'],
        pictures.map((row) => [row.name, `${row.psnrMean.toFixed(1)} dB`, `${row.psnrWorst.toFixed(1)} dB`]),
      ),
    ),
    some(predictions, () =>
      table(
        ['one UNet prediction, full size, against f32', 'relative L2 error'],
        predictions.map((row) => [row.name, percent(row.relativeError)]),
      ),
    ),
  ]
    .filter(Boolean)
    .join('\n\n')
}

const elsewhere = new Set([
  'load',
  'text',
  'unet',
  'layers',
  'vae-decode',
  'vae-encode',
  'memory',
  'memory-low',
])

/** Everything that has no table of its own, and what failed. */
export function rest({ rows }) {
  const remarks = (row) => {
    if (row.error) return row.error
    const parts = []
    if (row.growthBytes !== undefined)
      parts.push(`${mb(row.rssFirstBytes)} after the first tenth, ${mb(row.rssLastBytes)} at the end`)
    if (row.delayP99Ms !== undefined)
      parts.push(`delay: p99 ${ms(row.delayP99Ms)}, longest ${ms(row.delayMaxMs)}`)
    if (row.latencyMaxMs !== undefined)
      parts.push(`${row.aborted} aborts: median ${ms(row.latencyMedianMs)}, longest ${ms(row.latencyMaxMs)}`)
    if (row.secondsToLoaded !== undefined)
      parts.push(`loaded after ${s(row.secondsToLoaded)}, PNG after ${s(row.secondsToPng)}`)
    return parts.join('; ')
  }
  const others = rows.filter((row) => row.error || (!elsewhere.has(row.case) && !row.quality))
  return some(others, () =>
    table(
      ['case', 'model', 'time', 'peak RSS', ''],
      others.map((row) => [
        row.title,
        row.model ?? '',
        s(row.wallSeconds ?? row.seconds),
        row.error ? '' : mb(row.peakRss),
        remarks(row),
      ]),
    ),
  )
}
