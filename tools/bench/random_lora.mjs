/**
 * Writes a LoRA of random weights for a model, as kohya's scripts train them by default: every linear layer of attention
 * and feed-forward in the UNet and the text encoders; and every convolution, if asked for. For measuring.
 *
 *   node tools/bench/random_lora.mjs MODEL OUTPUT.safetensors [--rank 32] [--convolutions]
 */
import { writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { openModel } from '../../dist/index.js'

/** Layers that kohya's network_module trains. */
const LINEAR = /\.attentions\..*\.(to_[qkv]|to_out\.0|proj|ff\.net\.2|proj_in|proj_out)\.weight$/
const TEXT = /\.(self_attn\.\w+|mlp\.fc[12])\.weight$/

/** Small fp16 numbers of both signs, the same every time: exponents of 2⁻⁷ and 2⁻⁸. */
function randomHalves(count, seed) {
  const halves = new Uint16Array(count)
  let state = seed
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    halves[i] = ((state >>> 16) & 0x87ff) | 0x2000
  }
  return halves
}

function pairs(model, convolutions) {
  const found = []
  const add = (prefix, tensors, wanted) => {
    for (const { name, shape } of tensors)
      if (shape.length >= 2 && wanted(name))
        found.push({ stem: prefix + name.slice(0, -7).replaceAll('.', '_'), shape })
  }
  const wanted = (name) =>
    LINEAR.test(name) || (convolutions && /\.(conv\d?|conv_shortcut)\.weight$/.test(name))
  add('lora_unet_', model.unet.source.tensors, wanted)
  for (const [i, { source }] of model.textEncoders.entries())
    add(`lora_te${model.textEncoders.length > 1 ? i + 1 : ''}_text_model_`, source.tensors, (name) =>
      TEXT.test(name),
    )
  return found
}

/** @returns the number of layers that it changes */
export async function writeRandomLora(path, output, { rank = 32, convolutions = false } = {}) {
  const layers = pairs(await openModel(path), convolutions)
  const header = {}
  const parts = []
  let at = 0
  const put = (name, shape, seed) => {
    const data = randomHalves(
      shape.reduce((a, b) => a * b),
      seed,
    )
    header[name] = { dtype: 'F16', shape, data_offsets: [at, at + data.byteLength] }
    parts.push(Buffer.from(data.buffer))
    at += data.byteLength
  }
  for (const [i, { stem, shape }] of layers.entries()) {
    const [out, inputs, ...kernel] = shape
    put(`${stem}.lora_down.weight`, [rank, inputs, ...kernel], 2 * i + 1)
    put(`${stem}.lora_up.weight`, [out, rank, ...kernel.map(() => 1)], 2 * i + 2)
  }
  const json = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(json.length))
  writeFileSync(output, Buffer.concat([length, json, ...parts]))
  return layers.length
}

if (process.argv[1] && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { rank: { type: 'string', default: '32' }, convolutions: { type: 'boolean', default: false } },
  })
  const [model, output] = positionals
  if (!model || !output)
    throw new Error('usage: random_lora.mjs MODEL OUTPUT.safetensors [--rank 32] [--convolutions]')
  const layers = await writeRandomLora(model, output, { ...values, rank: Number(values.rank) })
  console.log(`${output}: rank ${values.rank}, ${layers} layers`)
}
