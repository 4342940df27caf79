/**
 * What is measured. Every case has a title and runs in a process of its own; it resolves to figures whose names tell their
 * units. Times are the best of --repeat after one run that warms up, unless the title says otherwise. `of`: which models
 * it is run with: 'each' full-size one, the 'first', 'all' of them in one process, or the model in the 'box'.
 */
import * as acceleration from './acceleration.mjs'
import * as forward from './forward.mjs'
import * as life from './life.mjs'
import * as quality from './quality.mjs'
import * as whole from './whole.mjs'

const inTheBox = (run) => (options) => run({ ...options, model: undefined })

export const cases = {
  load: { title: 'load, from the page cache', of: 'each', run: whole.load },
  text: { title: 'text encoding, 77 tokens', of: 'each', run: forward.text },
  unet: { title: 'UNet, one forward', of: 'each', run: forward.unet },
  layers: { title: 'UNet, by kind of layer', of: 'each', run: forward.layers },
  'vae-decode': { title: 'VAE decode', of: 'each', run: forward.vaeDecode },
  'vae-encode': { title: 'VAE encode', of: 'each', run: forward.vaeEncode },
  memory: { title: 'a whole picture, 2 steps with guidance', of: 'each', run: whole.memory },
  'memory-low': {
    title: 'a whole picture, 2 steps with guidance, lowMemory',
    of: 'each',
    run: (o) => whole.memory({ ...o, lowMemory: true }),
  },
  'memory-decode-1024': { title: 'VAE decode 1024×1024, one run', of: 'first', run: whole.memoryDecode },
  'memory-decode-2048': {
    title: 'VAE decode 2048×2048, one run',
    of: 'first',
    run: (o) => whole.memoryDecode({ ...o, side: 2048 }),
  },
  'abort-full': {
    title: 'abort, full-size model',
    of: 'first',
    run: (o) => life.abort({ ...o, tries: o.tries ?? 8 }),
  },
  'event-loop-full': {
    title: 'event loop, full-size model',
    of: 'first',
    run: (o) => life.eventLoop({ ...o, steps: 2 }),
  },
  accel: {
    title: 'options that leave work out: 20 steps, from their forwards',
    of: 'each',
    group: 'quality',
    run: acceleration.forwards,
  },
  'accel-pictures': {
    title: 'options that leave work out: 20 pictures of the model in the box, 20 steps',
    of: 'box',
    group: 'quality',
    run: acceleration.pictures,
  },
  box: { title: 'model in the box: process start → PNG, 20 steps', of: 'box', run: whole.box },
  'rss-flat': { title: 'memory over 100 small pictures', of: 'box', run: inTheBox(life.rssFlat) },
  'event-loop': {
    title: 'event loop, model in the box',
    of: 'box',
    run: inTheBox((o) => life.eventLoop({ ...o, steps: 20 })),
  },
  abort: { title: 'abort, model in the box', of: 'box', run: inTheBox(life.abort) },
  'quality-pictures': {
    title: 'pictures of the model in the box against float32',
    of: 'box',
    group: 'quality',
    run: quality.pictures,
  },
  'quality-prediction': {
    title: 'UNet prediction against float32',
    of: 'all',
    group: 'quality',
    run: quality.prediction,
  },
}
