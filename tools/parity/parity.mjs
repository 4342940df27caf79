/**
 * Compares the engine with diffusers on a full-size model: whole tensors, max |difference| over max |reference|.
 *
 * usage: npm run parity -- [--sd15 DIR] [--single FILE] [--sdxl DIR] [--sdxl-single FILE] [--sdxl-quantized FILE]
 *                          [--cache DIR] [--python PYTHON] [--only TEXT] [--precision f32,bf16]
 *   --sd15 DIR     a diffusers folder (shared/peers/make_sd15.py writes one); the references are computed from it
 *   --single FILE  the same model as one file in fp16; compared with weights rounded to fp16, in fp32 arithmetic
 *   --sdxl DIR, --sdxl-single FILE   the same for Stable Diffusion XL (shared/peers/make_sdxl.py), in f32 and in bf16
 *   --sdxl-quantized FILE            a q8_0 file that `quantize` made of it, in int8
 *   --precision LIST                 only these of SDXL's arithmetics
 *   --cache DIR    where references are kept between runs; default: build/parity
 *   --only TEXT    only cases whose name contains TEXT (text, unet-64x64-1, encode-512, …)
 * The exit status is 1 if the error of any case is more than 1e-3 (bf16: 1e-2, int8: 2e-2) or not finite.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { openModel } from '../../dist/models/index.js'
import { native } from '../../dist/native.js'

/** Largest error, relative to the largest expected value, by the type that products multiply. */
const TOLERANCES = { f32: 1e-3, bf16: 1e-2, int8: 2e-2 }
const here = dirname(fileURLToPath(import.meta.url))

const { values: options } = parseArgs({
  options: {
    sd15: { type: 'string' },
    single: { type: 'string' },
    cache: { type: 'string', default: join(here, '..', '..', 'build', 'parity') },
    python: { type: 'string', default: 'python3' },
    only: { type: 'string', default: '' },
    sdxl: { type: 'string' },
    'sdxl-single': { type: 'string' },
    'sdxl-quantized': { type: 'string' },
    precision: { type: 'string', default: 'f32,bf16,int8' },
  },
})

/** Inputs and outputs of diffusers, computed once and cached. */
function references(name, folder, flags) {
  const file = join(options.cache, `${name}.safetensors`)
  if (!existsSync(file)) {
    if (!folder) throw new Error(`No references at ${file}: the diffusers folder is needed to compute them`)
    mkdirSync(options.cache, { recursive: true })
    const run = spawnSync(options.python, [join(here, 'reference.py'), folder, file, ...flags], {
      stdio: 'inherit',
    })
    if (run.status !== 0) throw new Error(`${options.python} reference.py failed`)
  }
  return readTensors(file)
}

function readTensors(file) {
  const bytes = readFileSync(file)
  const start = 8 + Number(bytes.readBigUInt64LE(0))
  const tensors = {}
  for (const [name, entry] of Object.entries(JSON.parse(bytes.toString('utf8', 8, start)))) {
    if (name === '__metadata__') continue
    const [begin, end] = entry.data_offsets.map((offset) => bytes.byteOffset + start + offset)
    const copy = bytes.buffer.slice(begin, end)
    tensors[name] = {
      data: entry.dtype === 'I32' ? new Int32Array(copy) : new Float32Array(copy),
      shape: entry.shape,
    }
  }
  return tensors
}

/** How each kind of case is computed: the component to load, and the call. */
const kinds = {
  text: {
    load: ({ textEncoders: [first] }) => native().loadTextEncoder(first.config, first.source),
    call: (model, { tokens: { data, shape } }, { textEncoders: [{ skip, finalNorm }] }) =>
      model.encode({ tokens: data, n: shape[0], length: shape[1], skip, finalNorm }),
  },
  // SDXL's second text encoder: the hidden states, and behind them the pooled output.
  pooled: {
    load: ({ textEncoders: [, second] }) => native().loadTextEncoder(second.config, second.source),
    call: (model, { tokens: { data, shape }, ends }, { textEncoders: [, { skip, finalNorm }] }) =>
      model.encode({
        tokens: data,
        n: shape[0],
        length: shape[1],
        skip,
        finalNorm,
        pooledPositions: ends.data,
      }),
  },
  unet: {
    load: ({ unet }) => native().loadUnet(unet.config, unet.source),
    call: (model, { latents, timesteps, context, pooled, timeIds }) => {
      const [n, , h, w] = latents.shape
      const conditioning = {
        timesteps: timesteps.data,
        context: context.data,
        contextLength: context.shape[1],
        ...(pooled && { pooled: pooled.data, pooledWidth: pooled.shape[1] }),
        ...(timeIds && { timeIds: timeIds.data, timeIdCount: timeIds.shape[1] }),
      }
      return model.predict({ latents: latents.data, n, h, w, conditioning })
    },
  },
  encode: {
    load: ({ vae }) => native().loadVae(vae.config, vae.source),
    call: (model, { image: { data, shape } }) => model.encode(data, shape[0], shape[2], shape[3], null),
  },
  decode: {
    load: ({ vae }) => native().loadVae(vae.config, vae.source),
    call: (model, { latents: { data, shape } }) => model.decode(data, shape[0], shape[2], shape[3], null),
  },
}

/** The largest error and the largest expected value. The error is NaN if any element is, or if the lengths differ. */
function compare(found, expected) {
  let error = found.length === expected.length ? 0 : NaN
  let scale = 0
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(found[i] - expected[i])
    if (!(difference <= error) && !Number.isNaN(error)) error = difference
    scale = Math.max(scale, Math.abs(expected[i]))
  }
  return { error, scale }
}

async function check(path, tensors, tolerance, precision) {
  const model = await openModel(path)
  for (const part of [model.unet, model.vae, ...model.textEncoders])
    if (precision !== undefined) part.source.precision = precision
  const names = [...new Set(Object.keys(tensors).map((name) => name.split('/')[0]))]
  let passed = true
  for (const [kind, { load, call }] of Object.entries(kinds)) {
    const cases = names.filter((name) => name.split('-')[0] === kind && name.includes(options.only))
    if (cases.length === 0) continue
    const component = await load(model)
    for (const name of cases) {
      const of = Object.fromEntries(
        Object.entries(tensors).flatMap(([key, value]) =>
          key.startsWith(`${name}/`) ? [[key.split('/')[1], value]] : [],
        ),
      )
      const began = performance.now()
      const found = await call(component, of, model)
      const seconds = ((performance.now() - began) / 1000).toFixed(2)
      const { error, scale } = compare(found, of.output.data)
      const ok = error <= tolerance * scale
      passed &&= ok
      const ratio = (error / scale).toExponential(1)
      console.log(
        `${name.padEnd(14)} ${of.output.shape.join('×').padEnd(12)} max error ${error.toExponential(2).padStart(8)}   ` +
          `of ${scale.toFixed(3).padStart(7)}   ratio ${ratio.padStart(7)}   ${seconds.padStart(6)} s   ${ok ? 'pass' : 'FAIL'}`,
      )
    }
    await component.dispose()
  }
  return passed
}

/** What is compared: a path, the references, and the type that products multiply. */
const rows = [
  { path: options.sd15, references: ['full', options.sd15, []] },
  { path: options.single, references: ['half', options.sd15, ['--half']] },
  ...['f32', 'bf16'].flatMap((precision) =>
    [options.sdxl, options['sdxl-single']].map((path) => ({ path, precision })),
  ),
  { path: options['sdxl-quantized'], precision: 'int8' },
].filter(
  ({ path, precision }) =>
    path !== undefined && (precision === undefined || options.precision.split(',').includes(precision)),
)
if (rows.length === 0) {
  console.error(
    'Expected --sd15 DIR or another model. The comment at the top of tools/parity/parity.mjs says more.',
  )
  process.exit(2)
}
let passed = true
const { kernel, threads } = native().cpu()
for (const { path, precision, references: from = ['sdxl', options.sdxl, ['--xl']] } of rows) {
  const tensors = references(...from)
  const tolerance = TOLERANCES[precision ?? 'f32']
  // The weights of a quantized file that are stored as floats are multiplied as `quantize` meant them.
  const forced = precision === 'int8' ? undefined : precision
  console.log(`\n${path}: kernels ${kernel}, ${threads} threads, ${precision ?? 'auto'}; limit ${tolerance}`)
  passed = (await check(path, tensors, tolerance, forced)) && passed
}
process.exit(passed ? 0 : 1)
