/** The command-line options of run.mjs. */
import { existsSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

export const usage = `Measures speed and memory. Nothing here is part of the tests.

usage: npm run bench -- [options]
  --model [LABEL=]PATH[@PRECISION]  a full-size model to measure; may be repeated. Without it, only the bundled model is
                   measured. PRECISION is the type that products multiply (f32, bf16 or int8); by default it follows the
                   stored weights. The table of targets knows the labels f32, bf16, q8_0, q4_0, q4_k, sdxl-bf16 and
                   sdxl-q8_0; a model gets one of the first five by default if its precision or file name says so.
  --tiny-vae PATH  a tiny autoencoder for the latents of the models: also measure pictures in one step
  --control-net PATH  a ControlNet for the models: also measure what it adds to a step
  --size 512 --batch 1 --repeat 3 --threads N
  --quality        also compare pictures, and the UNet's prediction, with those of the first --model in float32
  --scaling        also time the UNet of the model labelled q8_0 (or the first one) at several resolutions, batch sizes
                   and numbers of threads
  --only a,b       only these cases; --list prints their names
  --rounds 1       how often to run everything, peers included; the best of each counts
  --peers SCRIPT   also time PyTorch and OpenVINO; SCRIPT is the path of bench_peers.py
  --peer-model DIR the diffusers folder for the peers; default: the first --model that is a folder
  --peer-list torch-fp32,torch-bf16,openvino-f32,openvino-bf16,openvino-int8
  --python python3
  --json FILE      where to write the results; default: build/bench/results.json
  --write          write a section with the figures to docs/benchmarks.md, under today's date
  --heading TEXT   heading of that section`

export class UsageError extends Error {}

const precisions = ['auto', 'f32', 'bf16', 'int8']

/** Parses `[LABEL=]PATH[@PRECISION]`. A path that exists as given may contain either sign. */
export function parseModel(text) {
  let rest = text
  let precision = 'auto'
  let label
  const at = rest.lastIndexOf('@')
  if (at > 0 && precisions.includes(rest.slice(at + 1)))
    [rest, precision] = [rest.slice(0, at), rest.slice(at + 1)]
  const equals = rest.indexOf('=')
  if (equals > 0 && !existsSync(resolve(rest)))
    [label, rest] = [rest.slice(0, equals), rest.slice(equals + 1)]
  const path = resolve(rest)
  if (!existsSync(path)) throw new UsageError(`Expected a model for --model but there is no ${path}`)
  label ??= precision === 'auto' ? /q\d_[\dk]/i.exec(basename(path))?.[0].toLowerCase() : precision
  return { label: label ?? basename(path), path, precision }
}

function count(values, name) {
  const value = Number(values[name])
  if (Number.isInteger(value) && value >= 1) return value
  throw new UsageError(`Expected an integer of at least 1 for --${name} but received ${values[name]}`)
}

/** @throws UsageError, or what parseArgs throws */
export function parseOptions(args, root) {
  const { values } = parseArgs({
    args,
    options: {
      model: { type: 'string', multiple: true, default: [] },
      'tiny-vae': { type: 'string' },
      'control-net': { type: 'string' },
      size: { type: 'string', default: '512' },
      batch: { type: 'string', default: '1' },
      repeat: { type: 'string', default: '3' },
      threads: { type: 'string' },
      quality: { type: 'boolean', default: false },
      scaling: { type: 'boolean', default: false },
      only: { type: 'string' },
      list: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
      rounds: { type: 'string', default: '1' },
      peers: { type: 'string' },
      'peer-model': { type: 'string' },
      'peer-list': {
        type: 'string',
        default: 'torch-fp32,torch-bf16,openvino-f32,openvino-bf16,openvino-int8',
      },
      python: { type: 'string', default: 'python3' },
      json: { type: 'string', default: join(root, 'build', 'bench', 'results.json') },
      write: { type: 'boolean', default: false },
      heading: { type: 'string' },
    },
  })
  const models = values.model.map(parseModel)
  const labels = models.map((model) => model.label)
  for (const label of labels)
    if (labels.indexOf(label) !== labels.lastIndexOf(label))
      throw new UsageError(`Two models have the label ${label}: give one of them another LABEL=`)
  const peerModel = values['peer-model'] ?? models.find(({ path }) => existsSync(join(path, 'unet')))?.path
  if (values.peers && !peerModel)
    throw new UsageError('Expected --peer-model, or a --model that is a diffusers folder, for --peers')
  if (values['tiny-vae'] && !existsSync(resolve(values['tiny-vae'])))
    throw new UsageError(
      `Expected a tiny autoencoder for --tiny-vae but there is no ${resolve(values['tiny-vae'])}`,
    )
  if (values['control-net'] && !existsSync(resolve(values['control-net'])))
    throw new UsageError(
      `Expected a ControlNet for --control-net but there is no ${resolve(values['control-net'])}`,
    )
  return {
    models,
    peerModel,
    only: values.only?.split(','),
    list: values.list,
    help: values.help,
    quality: values.quality,
    scaling: values.scaling,
    tinyVae: values['tiny-vae'] && resolve(values['tiny-vae']),
    controlNet: values['control-net'] && resolve(values['control-net']),
    rounds: count(values, 'rounds'),
    peers: values.peers && resolve(values.peers),
    peerList: values.peers ? values['peer-list'].split(',') : [],
    python: values.python,
    json: resolve(values.json),
    write: values.write,
    heading: values.heading,
    size: count(values, 'size'),
    batch: count(values, 'batch'),
    repeat: count(values, 'repeat'),
    threads: values.threads ? count(values, 'threads') : undefined,
    processors: availableParallelism(),
  }
}
