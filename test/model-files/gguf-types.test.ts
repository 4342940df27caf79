/** GGUF files with wrong sizes of blocks are refused before anything is loaded, for every type. */
import { truncateSync } from 'node:fs'
import { openModel } from '../../lib/models/index.js'
import { readGguf } from '../../lib/models/formats/gguf.js'
import {
  freshPath,
  GGML_BLOCKS,
  ggufBytes,
  rejects,
  stringsPair,
  t,
  writeGguf,
  type TestTensor,
} from './helpers.js'
import { TINY_VAE, vaeShapes } from './models.js'

const CHANNELS_LAST = 'node_diffusion.channels_last'
const F16 = 1
const types = Object.entries(GGML_BLOCKS).map(([number, [name, elements, bytes]]) => ({
  number: Number(number),
  name,
  elements,
  bytes,
}))

for (const { number, name, elements, bytes } of types) {
  t.test(`${name}: missing bytes and blocks`, async (t) => {
    const two: Record<string, TestTensor> = {
      a: { shape: [3, 2 * elements], type: number },
      b: { shape: [3, 2 * elements], type: number },
    }
    const { head, dataBytes } = ggufBytes(two)
    const size = 6 * bytes
    const path = writeGguf(freshPath(t, '.gguf'), two)
    t.equal((await readGguf(path)).tensors.get('b')!.bytes, size, 'the whole file is valid')
    // In the padding, in the last block, in the last byte of the first tensor, at the beginning of the data.
    for (const length of [
      dataBytes / 2 + size - 1,
      dataBytes / 2 + size - bytes,
      dataBytes / 2,
      size - 1,
      0,
    ]) {
      truncateSync(path, head.length + length)
      await rejects(
        t,
        openModel(path),
        'MODEL_FORMAT',
        /truncated: the file ends after \d+ of \d+ bytes/,
        `${length} bytes`,
      )
    }

    // prettier-ignore
    const lies: [string, (number | bigint)[], RegExp][] = [
      ['one row more', [2 * elements, 4], /overlaps|hole/],
      ['one row less', [2 * elements, 2], /hole/],
      ['blocks beyond the file', [elements * 2 ** 20, 3], /overlaps|end within/],
      ['blocks that overflow', [elements * 2 ** 30, 2 ** 30], /whose bytes can be counted/],
      ...(elements > 1
        ? ([
            ['a row of half a block', [elements / 2, 12], new RegExp(`multiple of ${elements} elements for ${name}`)],
            ['a row of a block and one', [elements + 1, 3], new RegExp(`multiple of ${elements} elements`)],
          ] as [string, number[], RegExp][])
        : []),
    ]
    // Rows are longer than the padding, so that a missing row is noticed.
    const wide = elements === 1 ? 64 : 1
    for (const [what, [width, ...rest], message] of lies) {
      const shape = [3, 2 * elements * wide]
      const tensors = { a: { shape, type: number }, b: { shape, type: number } }
      const dims = [typeof width === 'number' ? width * wide : width, ...rest]
      const lying = writeGguf(freshPath(t, '.gguf'), tensors, { info: { a: { dims } } })
      await rejects(t, openModel(lying), 'MODEL_FORMAT', message, what)
    }
  })
}

t.test('a tensor with a wrong type', async (t) => {
  const shape = [4, 256]
  let refused = 0
  for (const stored of types)
    for (const claimed of types) {
      if (stored === claimed) continue
      const tensors = { a: { shape, type: stored.number }, b: { shape, type: stored.number } }
      const path = writeGguf(freshPath(t, '.gguf'), tensors, { info: { a: { type: claimed.number } } })
      // Types of the same size (q4_0 and q4_k, f16 and bf16, …) cannot be told apart.
      if (stored.bytes * claimed.elements === claimed.bytes * stored.elements) {
        t.equal((await readGguf(path)).tensors.get('a')!.type, claimed.name)
        continue
      }
      await rejects(
        t,
        openModel(path),
        'MODEL_FORMAT',
        /overlaps|hole|end within/,
        `${stored.name} as ${claimed.name}`,
      )
      refused++
    }
  t.ok(refused >= 150, `${refused} refused`)
})

t.test('channels-last metadata that does not fit the model', async (t) => {
  const layout = [...vaeShapes(TINY_VAE)].map(([name, shape]): [string, TestTensor] => [
    name,
    { shape, type: F16 },
  ])
  const name = 'decoder.mid_block.resnets.0.conv1.weight'
  const write = (change: (tensor: TestTensor) => TestTensor, marked: string[]) =>
    writeGguf(
      freshPath(t, '.gguf'),
      Object.fromEntries(layout.map(([key, tensor]) => [key, key === name ? change(tensor) : tensor])),
      { pairs: [stringsPair(CHANNELS_LAST, marked)] },
    )
  const moved = (tensor: TestTensor): TestTensor => {
    const [o, i, h, w] = tensor.shape as [number, number, number, number]
    return { ...tensor, shape: [o, h, w, i] }
  }
  const marked = (await openModel(write(moved, [name]))).vae!.source.tensors.find(
    (tensor) => tensor.name === name,
  )
  t.match(marked, { shape: [64, 64, 3, 3], channelsLast: true })
  await rejects(
    t,
    openModel(write(moved, [])),
    'MODEL_SHAPE',
    new RegExp(name),
    'channels last but not marked',
  )
  await rejects(
    t,
    openModel(write((x) => x, [name])),
    'MODEL_SHAPE',
    new RegExp(name),
    'marked but not channels last',
  )
  await rejects(
    t,
    openModel(write(moved, [name, 'quant_conv.bias'])),
    'MODEL_FORMAT',
    /4 dimensions/,
    'a vector',
  )
  await rejects(t, openModel(write(moved, [name, 'nothing'])), 'MODEL_FORMAT', /not a tensor/, 'no tensor')
})
