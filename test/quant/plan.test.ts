/** The types of tensors by defaults, rules and fallbacks, and the parts of the report. */
import t from 'tap'
import type { ModelSource, GgmlTensorType } from '../../lib/native.js'
import { groupOf, GROUPS } from '../../lib/quantize/groups.js'
import { planTensors } from '../../lib/quantize/plan.js'
import { parseRules } from '../../lib/quantize/rules.js'
import { ggmlBytes } from '../../lib/models/formats/gguf-types.js'
import type { ModelDescription } from '../../lib/models/model-description.js'
import {
  type Shapes,
  textShapes,
  TINY_TEXT,
  TINY_UNET,
  TINY_VAE,
  unetShapes,
  vaeShapes,
} from '../model-files/models.js'

function source(layout: Shapes, type: GgmlTensorType = 'f32'): ModelSource {
  const tensors = [...layout].map(([name, shape]) => {
    const bytes = ggmlBytes(type, shape.reduce((a, b) => a * b, 1)) // prettier-ignore
    return { name, type, shape, file: 0, offset: 0, bytes }
  })
  return { files: ['model'], tensors }
}

/** Widths of Stable Diffusion 1, whose rows of 320 and 640 fill no blocks of 256. */
const UNET = { ...TINY_UNET, blockChannels: [320, 640, 1280], contextWidth: 768 }

function model(type?: GgmlTensorType): ModelDescription {
  return {
    textEncoders: [
      {
        config: TINY_TEXT,
        skip: 0,
        tokenizer: null,
        source: source(textShapes({ ...TINY_TEXT, width: 768, intermediate: 3072 }), type),
      },
    ],
    unet: { config: UNET, source: source(unetShapes(UNET), type) },
    vae: { config: TINY_VAE, scalingFactor: 1, source: source(vaeShapes(TINY_VAE), type) },
  } as Partial<ModelDescription> as ModelDescription
}

function types(type: GgmlTensorType, rules = '', from?: GgmlTensorType) {
  const plan = planTensors(model(from), type, parseRules(rules))
  return { plan, of: Object.fromEntries(plan.tensors.map((tensor) => [tensor.name, tensor])) }
}

t.test('defaults', async (t) => {
  const { plan, of } = types('q4_0')
  const is = (name: string, type: GgmlTensorType) => t.equal(of[name]?.type, type, name)
  is('unet.mid_block.attentions.0.proj_in.weight', 'q8_0')
  is('unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight', 'q4_0')
  is('unet.up_blocks.1.resnets.0.conv_shortcut.weight', 'q8_0')
  is('unet.up_blocks.0.resnets.0.conv_shortcut.weight', 'q4_0')
  is('unet.down_blocks.1.resnets.0.conv1.weight', 'q4_0')
  is('unet.down_blocks.1.resnets.0.conv1.bias', 'f32')
  is('unet.down_blocks.1.resnets.0.norm1.weight', 'f32')
  is('unet.down_blocks.0.resnets.0.conv1.weight', 'q8_0')
  is('unet.up_blocks.2.attentions.0.transformer_blocks.0.attn1.to_q.weight', 'q8_0')
  is('unet.conv_in.weight', 'f16')
  is('unet.conv_in.bias', 'f32')
  is('unet.conv_out.weight', 'f16')
  is('unet.time_embedding.linear_1.weight', 'f16')
  is('text_encoder.embeddings.token_embedding.weight', 'f16')
  is('text_encoder.encoder.layers.0.mlp.fc1.weight', 'q4_0')
  is('vae.decoder.conv_in.weight', 'f16')
  is('vae.decoder.conv_norm_out.weight', 'f32')
  t.same(plan.unusedRules, [])
  t.equal(plan.tensors.some(({ wanted }) => wanted), false) // prettier-ignore
  t.equal(types('q8_0').of['unet.down_blocks.0.resnets.0.conv1.weight'].type, 'q8_0')
})

t.test('convolutions are stored with channels last, 1×1 convolutions as linear layers', async (t) => {
  const { of } = types('q8_0')
  const conv = of['unet.mid_block.resnets.0.conv1.weight']
  t.match(conv, {
    shape: [1280, 1280, 3, 3],
    channelsLast: true,
    rows: 1280,
    bytes: (1280 * 1280 * 9 * 34) / 32,
  })
  const pointwise = of['unet.mid_block.attentions.0.proj_in.weight']
  t.same([pointwise.shape, pointwise.channelsLast], [[1280, 1280], undefined])
  t.match(of['unet.conv_in.bias'], { shape: [320], rows: 1 })
})

t.test('a row that does not fill blocks gets the next type that fits, which is reported', async (t) => {
  for (const [type, instead] of [
    ['q4_k', 'q5_0'],
    ['q5_k', 'q5_1'],
    ['q6_k', 'q8_0'],
    ['q3_k', 'q4_0'],
    ['q2_k', 'q4_0'],
  ] as const) {
    const { of } = types(type)
    t.match(of['unet.down_blocks.1.resnets.1.conv1.weight'], { type: instead, wanted: type })
    t.match(of['unet.mid_block.resnets.0.conv1.weight'], { type, wanted: undefined })
  }
  const { of } = types('q4_0', 'unet.conv_in.weight=q4_k')
  t.match(of['unet.conv_in.weight'], { type: 'f16', wanted: 'q4_k' }, 'rows of 4')
  t.match(types('q4_0').of['unet.conv_in.weight'], { type: 'f16', wanted: undefined })
})

t.test('the first rule that matches a whole name takes precedence over the defaults', async (t) => {
  const { of, plan } = types(
    'q4_0',
    ' unet.*attn1*=Q8_0 , *.to_?.weight=q5_1,vae.*=bf16,*norm*=f16,unet.nothing=f16',
  )
  const attention = 'unet.mid_block.attentions.0.transformer_blocks.0'
  t.equal(of[`${attention}.attn1.to_q.weight`].type, 'q8_0')
  t.equal(of[`${attention}.attn2.to_q.weight`].type, 'q5_1')
  t.equal(of[`${attention}.attn2.to_out.0.weight`].type, 'q4_0')
  t.equal(of[`${attention}.attn1.to_out.0.bias`].type, 'f32', 'vectors are not quantized')
  t.equal(of['vae.decoder.conv_in.bias'].type, 'bf16')
  t.equal(of['unet.conv_norm_out.weight'].type, 'f16')
  t.same(plan.unusedRules, ['unet.nothing=f16'])
  t.equal(types('q4_0', 'mid_block=f16').plan.unusedRules.length, 1, 'a part of a name does not match')
})

t.test('models of a single type, and sources that are smaller already', async (t) => {
  for (const type of ['f16', 'bf16', 'f32'] as const) {
    const { plan } = types(type)
    t.ok(plan.tensors.every((x) => x.type === (x.shape.length > 1 ? type : 'f32')), type) // prettier-ignore
  }
  const { of } = types('q4_0', '', 'q4_0')
  t.equal(of['unet.down_blocks.0.resnets.0.conv1.weight'].type, 'q4_0')
  t.equal(of['vae.decoder.mid_block.resnets.0.conv1.weight'].type, 'q4_0')
})

t.test('wrong rules', async (t) => {
  t.throws(() => parseRules(7), { name: 'TypeError', message: /Expected string for rules/ })
  for (const text of ['unet', '=f16', 'unet=', 'a=b=f16']) {
    t.throws(() => parseRules(text), { name: 'RangeError', message: /Expected pattern=type/ }, text)
  }
  t.throws(() => parseRules('unet.*=q4_9'), { name: 'RangeError', message: /did you mean q4_[01k]/ })
  t.throws(() => parseRules('(a+)+$=f99'), RangeError)
  t.equal(parseRules('a.b(c)[d]=f16')[0].matches('a.b(c)[d]'), true)
  t.equal(parseRules('a.b=f16')[0].matches('aXb'), false)
  t.same(parseRules(' , '), [])
})

t.test('every tensor belongs to a part', async (t) => {
  const { plan } = types('q8_0')
  const found = new Set(plan.tensors.map(({ group }) => group))
  const elsewhere = /^(vae codebook|control net |image encoder)/
  t.same(new Set(GROUPS.filter((name) => !elsewhere.test(name))), found)
  for (const [name, group] of [
    ['conv_in.weight', 'control net in, out, time'],
    ['controlnet_down_blocks.0.weight', 'control net in, out, time'],
    ['mid_block.resnets.0.conv1.weight', 'control net convolution'],
    ['down_blocks.0.attentions.0.proj_in.weight', 'control net attention'],
    ['down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2.weight', 'control net feed-forward'],
  ])
    t.equal(groupOf(`control_net.${name}`), group)
  t.equal(groupOf('vae.quantize.embedding.weight'), 'vae codebook')
  t.equal(
    groupOf('unet.down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2.weight'),
    'unet down feed-forward',
  )
})
