/** The sections of a report. A section is '' where nothing for it was measured. */
import { finder, giga, mb, ms, percent, s, table } from './format.mjs'

const unlessEmpty = (rows, render) => (rows.length === 0 ? '' : render(rows))

/** One row for each model: times, weights and memory of its components and of a whole picture. */
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
  return unlessEmpty(
    lines.filter((cells) => cells.slice(1).some((cell) => cell !== '')),
    (full) => table(head, full),
  )
}

/** The labels of our models that each peer is compared with; the first one that was measured counts. */
const counterparts = {
  'torch-fp32': ['f32'],
  'torch-bf16': ['bf16', 'sdxl-bf16'],
  'openvino-f32': ['f32'],
  'openvino-bf16': ['bf16', 'sdxl-bf16'],
  'openvino-int8': ['q8_0', 'int8'],
}

/** Our times and memory divided by those of each peer, for our model of the same precision or else the first one. */
export function peers({ rows, peers, options }) {
  const find = finder(rows)
  const labels = options.models.map(({ label }) => label)
  return unlessEmpty(peers, () => {
    const lines = peers.map((peer) => {
      if (peer.error) return [peer.peer, '', peer.error, '', '', '', '']
      const label = counterparts[peer.peer]?.find((name) => labels.includes(name)) ?? labels[0]
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
    return `Our figures divided by those of the peers, which are in brackets, in the same run. Below 1 means that ours are smaller.\n\n${table(['peer', 'our model', 'UNet', 'VAE decode', 'text', 'load', 'peak RSS'], lines)}`
  })
}

/** The time of a UNet forward pass by kind of layer. */
export function layers({ rows, measured, cpu }) {
  const profiled = rows.filter((row) => row.layers)
  return unlessEmpty(profiled, () => {
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
    return `Time of a UNet forward pass by kind of layer (${cpu.threads} threads). Operations are those that are computed; Winograd and folded upsampling need fewer than direct convolution.\n\n${table(['model', 'layers', 'arithmetic', 'time', 'share', 'GFLOP/s', 'of the peak'], lines)}`
  })
}

const kinds = [
  ['f32', 'gemm ', 'attention '],
  ['bf16', 'gemm-bf16 ', 'attention-bf16 '],
  ['int16', 'gemm-i16 '],
  ['int8', 'gemm-i8 ', 'attention-i8 '],
]

/** Every kernel on the shapes of real layers, one thread: GFLOP/s, and percent of the peak of its arithmetic. */
export function kernels({ measured, cpu }) {
  return unlessEmpty(measured.kernels ?? [], (all) => {
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
      `Kernels (${cpu.kernel}), one thread. Measured peaks: ${peaks.join(', ')} GFLOP/s.`,
      table(head, lines),
      table(['memory-bound operation', 'read and written'], rest),
    ].join('\n\n')
  })
}

/** Measured times beside those that the operation counts predict. */
export function scaling({ rows, scaled, options }) {
  const points = rows.filter((row) => row.point && !row.error)
  return unlessEmpty(points, () => {
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
    return `UNet of ${scaled} at several resolutions, batch sizes and numbers of threads. Predictions follow the operation counts of a direct computation, and assume perfect scaling with the number of threads.\n\n${table(['size', 'batch', 'threads', 'time', 'GFLOP', 'GFLOP/s', 'predicted ×', 'measured ×', 'difference'], lines)}`
  })
}

/** The options that trade fidelity for speed: time saved, and difference of the pictures. */
export function acceleration({ rows }) {
  const pictures = finder(rows)('accel-pictures')?.acceleration ?? []
  const full = rows.filter((row) => row.case === 'accel' && !row.error)
  const names = (full[0]?.acceleration ?? pictures).map(({ name }) => name)
  return unlessEmpty(names, () => {
    const head = [
      '20 steps with guidance, relative to those without the option',
      ...full.map((row) => `time, ${row.model}`),
      ...(pictures.length > 0 ? ['bundled model: time', 'PSNR, mean', 'worst'] : []),
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
  const directions = find('quality-lora')?.quality ?? []
  return [
    unlessEmpty(pictures, () =>
      table(
        ['pictures of the bundled model, 20 prompts, 20 steps, compared with f32', 'PSNR, mean', 'worst'],
        pictures.map((row) => [row.name, `${row.psnrMean.toFixed(1)} dB`, `${row.psnrWorst.toFixed(1)} dB`]),
      ),
    ),
    unlessEmpty(predictions, () =>
      table(
        ['one UNet prediction, full size, compared with f32', 'relative L2 error'],
        predictions.map((row) => [row.name, percent(row.relativeError)]),
      ),
    ),
    unlessEmpty(directions, () =>
      table(
        ['what a LoRA changes in one UNet prediction, compared with f32', 'cosine'],
        directions.map((row) => [row.name, row.cosine.toFixed(3)]),
      ),
    ),
  ]
    .filter(Boolean)
    .join('\n\n')
}

/** What estimate() says beside what was measured. */
export function estimates({ rows }) {
  const estimated = rows.filter((row) => row.case === 'estimate' && !row.error)
  return unlessEmpty(estimated, () => {
    const cells = (guess, measured) => [s(guess), s(measured), percent((guess - measured) / measured)]
    const head = ['model', 'guided step, estimated', 'measured', 'difference', 'VAE decode, estimated', 'measured', 'difference'] // prettier-ignore
    const lines = estimated.map((row) => [
      row.model,
      ...cells(row.estimatedStepSeconds, row.stepSeconds),
      ...cells(row.estimatedDecodeSeconds, row.decodeSeconds),
    ])
    return `Seconds of \`estimate()\` and as measured afterwards, in one process.\n\n${table(head, lines)}`
  })
}

const inOtherTables = new Set([
  'estimate',
  'load',
  'text',
  'unet',
  'layers',
  'vae-decode',
  'vae-encode',
  'memory',
  'memory-low',
])

/** Cases that have no table of their own, and cases that failed. */
export function rest({ rows }) {
  const remarks = (row) => {
    if (row.error) return row.error
    const parts = []
    if (row.timings)
      parts.push(
        ['text', 'start', 'denoise', 'decode'].map((name) => `${name} ${ms(row.timings[name])}`).join(', '),
      )
    if (row.growthBytes !== undefined)
      parts.push(`${mb(row.rssFirstBytes)} after the first tenth, ${mb(row.rssLastBytes)} at the end`)
    if (row.delayP99Ms !== undefined)
      parts.push(`delay: p99 ${ms(row.delayP99Ms)}, maximum ${ms(row.delayMaxMs)}`)
    if (row.latencyMaxMs !== undefined)
      parts.push(`${row.aborted} aborts: median ${ms(row.latencyMedianMs)}, maximum ${ms(row.latencyMaxMs)}`)
    if (row.autoLessCpuMs !== undefined)
      parts.push(
        `CPU time: first look ${ms(row.firstMs)}, later ${ms(row.againMs)}; a load with 'auto' less one with 'cpu' ` +
          `${ms(row.autoLessCpuMs)}, ${row.autoByCpu.toFixed(2)} times it`,
      )
    if (row.secondsToLoaded !== undefined)
      parts.push(`loaded after ${s(row.secondsToLoaded)}, PNG after ${s(row.secondsToPng)}`)
    return parts.join('; ')
  }
  const others = rows.filter((row) => row.error || (!inOtherTables.has(row.case) && !row.quality))
  return unlessEmpty(others, () =>
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
