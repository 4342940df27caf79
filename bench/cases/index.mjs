/**
 * The cases. Each has a title, runs in a process of its own, and resolves to figures whose names include their units. Times
 * are the best of --repeat runs after one warm-up run, unless the title says otherwise. `of` says which models a case runs
 * with: 'each' full-size model, the 'first' one, 'all' of them in one process, or the 'bundled' one.
 */
import * as acceleration from './acceleration.mjs'
import * as controls from './control.mjs'
import { estimate } from './estimate.mjs'
import * as forward from './forward.mjs'
import * as gpu from './gpu.mjs'
import * as life from './life.mjs'
import * as lora from './lora.mjs'
import * as quality from './quality.mjs'
import * as whole from './whole.mjs'

const withBundledModel = (run) => (options) => run({ ...options, model: undefined })

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
  turbo: {
    title: 'a whole picture in one step, tiny autoencoder, from a loaded pipeline',
    of: 'each',
    group: 'tinyVae',
    run: whole.turbo,
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
  estimate: {
    title: 'a guided step and a decode as estimate() says, and measured',
    of: 'each',
    run: estimate,
  },
  lora: { title: 'a LoRA of rank 32, at load and for one call', of: 'each', run: lora.lora },
  control: {
    title: 'a step with a ControlNet and without',
    of: 'each',
    group: 'controlNet',
    run: controls.control,
  },
  accel: {
    title: 'options that trade fidelity for speed: 20 steps, summed from forward passes',
    of: 'each',
    group: 'quality',
    run: acceleration.forwards,
  },
  'accel-pictures': {
    title: 'options that trade fidelity for speed: 20 pictures of the bundled model, 20 steps',
    of: 'bundled',
    group: 'quality',
    run: acceleration.pictures,
  },
  bundled: { title: 'bundled model: process start → PNG, 20 steps', of: 'bundled', run: whole.bundled },
  'rss-flat': {
    title: 'memory over 100 small pictures',
    of: 'bundled',
    run: withBundledModel(life.rssFlat),
  },
  'event-loop': {
    title: 'event loop, bundled model',
    of: 'bundled',
    run: withBundledModel((o) => life.eventLoop({ ...o, steps: 20 })),
  },
  abort: { title: 'abort, bundled model', of: 'bundled', run: withBundledModel(life.abort) },
  'device-detection': {
    title: 'start without a GPU: looking for one',
    of: 'bundled',
    run: withBundledModel(life.deviceDetection),
  },
  'gpu-host': {
    title: "the host's part of a picture on a GPU, 20 steps: kernels that compute nothing",
    of: 'each',
    run: gpu.host,
  },
  'quality-pictures': {
    title: 'pictures of the bundled model, compared with float32',
    of: 'bundled',
    group: 'quality',
    run: quality.pictures,
  },
  'quality-prediction': {
    title: 'UNet prediction, compared with float32',
    of: 'all',
    group: 'quality',
    run: quality.prediction,
  },
  'quality-lora': {
    title: 'what a LoRA of rank 32 changes in a UNet prediction, compared with float32',
    of: 'all',
    group: 'quality',
    run: quality.lora,
  },
}
