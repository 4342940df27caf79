/** The same weights in a diffusers folder, an original single file and GGUF files give the same results. */
import t from 'tap'
import { native } from '../../lib/native.js'
import { openModel } from '../../lib/models/index.js'
import { compute, difference, load } from './compute.js'
import { cases, tensor, unpackForms, type Component } from './fixtures.js'

const TOLERANCE = 1e-4
const forms = unpackForms()
t.teardown(() => forms.remove())
native().setThreads(2)

/** Each of the 16-bit GGUF files contains a part of the model. */
const holders: Record<Component, string[]> = {
  unet: ['folder', 'sd1.safetensors', 'sd1-f32.gguf', 'sd1-f16.gguf'],
  vae: ['folder', 'sd1.safetensors', 'sd1-f32.gguf', 'sd1-bf16.gguf'],
  text_encoder: ['folder', 'sd1.safetensors', 'sd1-f32.gguf', 'sd1-bf16.gguf'],
}

for (const component of ['unet', 'vae', 'text_encoder'] as const) {
  t.test(component, async (t) => {
    const first = new Map<string, ArrayLike<number>>()
    for (const file of holders[component]) {
      const model = await load(forms.path(file), component)
      for (const of of cases.filter((c) => c.model === 'forms' && c.component === component)) {
        const found = await compute(model, of)
        const { error, scale } = difference(found, tensor(of, 'output').data)
        t.ok(error <= TOLERANCE * scale, `${file}: ${of.name}: ${error} ≤ ${TOLERANCE * scale}`)
        const same = difference(found, first.get(of.name) ?? found)
        t.equal(same.error, 0, `${file}: ${of.name} is the same as from the folder`)
        if (!first.has(of.name)) first.set(of.name, found)
      }
      await model.dispose()
    }
    t.ok(first.size > 0)
  })
}

t.test('OpenCLIP names: fused projections, and the last layer is skipped by default', async (t) => {
  for (const of of cases.filter((c) => c.model === 'forms-sd2')) {
    const model = await load(forms.path('sd2.safetensors'), of.component)
    if (of.component === 'text_encoder') t.equal(model.skip, of.skip)
    const { error, scale } = difference(await compute(model, of, null, model.skip), tensor(of, 'output').data)
    t.ok(error <= TOLERANCE * scale, `${of.name}: ${error} ≤ ${TOLERANCE * scale}`)
    await model.dispose()
  }
})

t.test('formats of the files and their components', async (t) => {
  const parts = async (file: string) => {
    const model = await openModel(forms.path(file))
    return [model.format, !!model.unet, !!model.vae, model.textEncoders.length === 1]
  }
  t.strictSame(await parts('folder'), ['diffusers', true, true, true])
  t.strictSame(await parts('sd1.safetensors'), ['safetensors', true, true, true])
  t.strictSame(await parts('sd2.safetensors'), ['safetensors', true, false, true])
  t.strictSame(await parts('sd1-f32.gguf'), ['gguf', true, true, true])
  t.strictSame(await parts('sd1-f16.gguf'), ['gguf', true, false, false])
  t.strictSame(await parts('sd1-bf16.gguf'), ['gguf', false, true, true])
})
