import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import sharp from 'sharp'
import t from 'tap'
import { DiffusionError } from '../../lib/errors.js'
import { formatOf, Image } from '../../lib/image/image.js'
import { toTensor } from '../../lib/image/load.js'
import { latentPreview, STABLE_DIFFUSION_FACTORS } from '../../lib/image/preview.js'
import { formatParameters, parseParameters } from '../../lib/image/parameters.js'
import { readPngTexts, withPngText } from '../../lib/image/png.js'

const gradient = (width: number, height: number): Image =>
  new Image(
    width,
    height,
    Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * 7) % 256),
  )

const pixels = async (file: Uint8Array): Promise<Uint8Array> => sharp(file).removeAlpha().raw().toBuffer()

t.test('fromTensor() converts −1…1 to bytes as diffusers does', (t) => {
  // Two pixels; red, green, blue planes. (0/2 + 0.5)·255 = 127.5 rounds to the even 128.
  const data = Float32Array.of(-1, 1, 0, 0.5, -3, 3)
  const image = Image.fromTensor({ data, shape: [1, 3, 1, 2] })
  t.same([image.width, image.height], [2, 1])
  t.same([...image.data], [0, 128, 0, 255, 191, 255])
  t.same(
    [...Image.fromTensor({ data: Float32Array.of(NaN, -Infinity, Infinity), shape: [3, 1, 1] }).data],
    [0, 0, 255],
  )
  t.same([...Image.fromTensor({ data, shape: [2, 3, 1, 1] }, 1).data], [191, 0, 255])
  t.same(
    [...Image.fromTensor({ data: Float32Array.of(1), shape: [1, 1, 1, 1] }).data],
    [255, 255, 255],
    'grey',
  )
  for (const shape of [[1, 2, 1, 3], [6], [1, 3, 2, 2]])
    t.throws(() => Image.fromTensor({ data, shape }), RangeError)
  t.throws(() => Image.fromTensor({ data, shape: [2, 3, 1, 1] }, 2), RangeError)
  t.throws(() => new Image(2, 2, new Uint8Array(11)), { name: 'RangeError', message: /2×2×3 bytes/ })
  t.end()
})

t.test('toBuffer()', async (t) => {
  const image = gradient(20, 10)
  t.same(new Uint8Array(await pixels(await image.toBuffer())), image.data, 'PNG is the default, and lossless')
  const webp = await image.toBuffer('webp', { lossless: true })
  t.same(new Uint8Array(await pixels(webp)), image.data)
  t.equal((await sharp(await image.toBuffer('jpeg', { quality: 50 })).metadata()).format, 'jpeg')
  const small = await image.toBuffer('png', { compressionLevel: 9 })
  t.ok(small.length < (await image.toBuffer('png', { compressionLevel: 0 })).length)
  await t.rejects(image.toBuffer('gif' as 'png'), { name: 'RangeError', message: /png, jpeg, webp .* "gif"/ })
  await t.rejects(image.toBuffer('jpeg', { quality: 0 }), {
    name: 'RangeError',
    message: /1 and 100 for quality .* 0/,
  })
  await t.rejects(image.toBuffer('png', { compressionLevel: 10 }), RangeError)
})

t.test('toFile()', async (t) => {
  const dir = t.testdir()
  const image = gradient(8, 8)
  for (const [name, format] of [
    ['a.png', 'png'],
    ['a.JPG', 'jpeg'],
    ['a.jpeg', 'jpeg'],
    ['a.webp', 'webp'],
  ]) {
    await image.toFile(join(dir, name))
    t.equal((await sharp(join(dir, name)).metadata()).format, format)
  }
  await image.toFile(join(dir, 'odd.bin'), { format: 'png' })
  await image.toFile(join(dir, 'a.png'))
  t.same(
    readdirSync(dir).sort(),
    ['a.JPG', 'a.jpeg', 'a.png', 'a.webp', 'odd.bin'],
    'no temporary file is left',
  )
})

t.test('files that cannot be written', async (t) => {
  const dir = t.testdir({ file: '' })
  const image = gradient(8, 8)
  mkdirSync(join(dir, 'folder.png'))
  for (const [name, message] of [
    ['nowhere/a.png', /Cannot write .*nowhere\/a\.png: there is no folder .*nowhere/],
    ['file/a.png', /file is not a folder/],
    ['folder.png', /Cannot write .*folder\.png/],
    [`${'x'.repeat(300)}.png`, /name is too long/],
  ] as const) {
    await t.rejects(image.toFile(join(dir, name)), { name: 'DiffusionError', code: 'IO', message })
  }
  for (const name of ['a.gif', 'a', '.png', 'a.png.tmp']) {
    await t.rejects(image.toFile(join(dir, name)), {
      name: 'RangeError',
      message: /\.png, \.jpg, \.jpeg, \.webp but received .*a?/,
    })
  }
  const signal = AbortSignal.abort(new Error('stop'))
  await t.rejects(image.toFile(join(dir, 'aborted.png'), { signal }), { message: 'stop' })
  t.same(readdirSync(dir).sort(), ['file', 'folder.png'])
  t.same(readdirSync(join(dir, 'folder.png')), [])
  t.equal(formatOf('x/Y.WebP'), 'webp')
})

t.test(
  'a folder without permission',
  { skip: process.getuid?.() === 0 && 'root can write everywhere' },
  async (t) => {
    const dir = t.testdir()
    chmodSync(dir, 0o500)
    await t.rejects(gradient(8, 8).toFile(join(dir, 'a.png')), { code: 'IO', message: /permission denied/ })
  },
)

t.test('parameters in the format of web UIs', (t) => {
  const metadata = {
    prompt: 'a cat,\n(red:1.2)',
    negativePrompt: 'ugly: yes',
    steps: 20,
    scheduler: 'dpm++-2m-karras',
    guidanceScale: 7.5,
    seed: 4294967295,
    width: 512,
    height: 768,
    model: 'v1,5 "x"',
  }
  const text = formatParameters(metadata)
  t.equal(
    text,
    'a cat,\n(red:1.2)\nNegative prompt: ugly: yes\nSteps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, ' +
      'Seed: 4294967295, Size: 512x768, Model: "v1,5 \\"x\\""',
  )
  const back = parseParameters(text)
  t.equal(back.prompt, metadata.prompt)
  t.equal(back.negativePrompt, metadata.negativePrompt)
  t.match(back.settings, {
    Steps: '20',
    Sampler: 'DPM++ 2M',
    Seed: '4294967295',
    Size: '512x768',
    Model: 'v1,5 "x"',
  })
  t.equal(formatParameters({ prompt: 'x' }), 'x')
  t.equal(
    formatParameters({ prompt: 'x', steps: 1, scheduler: 'mine', strength: 0.5 }),
    'x\nSteps: 1, Sampler: mine, Denoising strength: 0.5',
  )
  // As the web UIs read them back: 1 is "nothing skipped", and the sources of noise are GPU, CPU and NV.
  for (const [more, line] of [
    [{ clipSkip: 1 }, 'Clip skip: 2'],
    [{ clipSkip: 0 }, undefined],
    [{ rng: 'torch' }, 'RNG: CPU'],
    [{ rng: 'philox' }, 'RNG: NV'],
    [{ rng: 'mine' }, 'RNG: mine'],
  ] as const)
    t.equal(formatParameters({ prompt: 'x', ...more }).split('\n')[1], line)
  t.equal(parseParameters('x\nSteps: 1, Model: "a\\x"').settings.Model, '"a\\x"', 'quotes that are no JSON')
  t.same(parseParameters('x'), { prompt: 'x', negativePrompt: '', settings: {} })
  t.end()
})

t.test('metadata in files', async (t) => {
  const image = gradient(8, 8)
  for (const prompt of [
    'plain',
    'café ½',
    'kedi İ 😀 猫',
    'odd \0 \ud800 end',
    `long ${'é'.repeat(40000)}`,
  ]) {
    image.metadata = { prompt, steps: 3 }
    const text = formatParameters(image.metadata)
    const clean = Buffer.from(text.replaceAll('\0', '')).toString()
    const png = await image.toBuffer('png')
    t.equal(readPngTexts(png).get('parameters'), clean, 'png')
    t.same(new Uint8Array(await pixels(png)), image.data, 'the pixels do not change')
    for (const format of ['jpeg', 'webp'] as const) {
      const { exif } = await sharp(await image.toBuffer(format)).metadata()
      const ascii = exif!.indexOf('ASCII\0\0\0')
      const unicode = exif!.indexOf('UNICODE\0')
      const found =
        unicode < 0
          ? exif!.toString('latin1', ascii + 8)
          : Buffer.from(exif!.subarray(unicode + 8, exif!.length - ((exif!.length - unicode) % 2)))
              .swap16()
              .toString('utf16le')
      t.ok(found.startsWith(text.replaceAll('\0', '').slice(0, 29000)), format)
    }
    t.equal(readPngTexts(await image.toBuffer('png', { metadata: false })).size, 0)
  }
  t.match(withPngText(await gradient(2, 2).toBuffer(), 'k', 'v').toString('latin1'), /tEXtk\0v/)
  t.equal(readPngTexts(Buffer.from('no png')).size, 0)
})

t.test('images to tensors', async (t) => {
  const dir = t.testdir()
  const image = gradient(6, 4)
  const path = join(dir, 'a.png')
  await image.toFile(path)
  const expected = (i: number, channel: number): number =>
    Math.fround(image.data[i * 3 + channel] / 127.5 - 1)
  for (const input of [path, readFileSync(path), new Uint8Array(readFileSync(path)), image]) {
    const { data, shape } = await toTensor(input)
    t.same(shape, [1, 3, 4, 6])
    t.ok(data.every((value, i) => value === expected(i % 24, Math.trunc(i / 24))))
    t.same(Image.fromTensor({ data, shape }).data, image.data, 'and back')
  }
  t.same((await toTensor(image, { width: 16, height: 8 })).shape, [1, 3, 8, 16])

  const only = async (file: Buffer): Promise<number[]> =>
    [...(await toTensor(file)).data].map((v) => Math.round((v + 1) * 127.5))
  const clear = await sharp({
    create: { width: 1, height: 1, channels: 4, background: { r: 9, g: 9, b: 9, alpha: 0 } },
  })
    .png()
    .toBuffer()
  t.same(await only(clear), [255, 255, 255], 'transparent is white')
  const grey = await sharp(Buffer.of(77), { raw: { width: 1, height: 1, channels: 1 } })
    .toColourspace('b-w')
    .png()
    .toBuffer()
  t.same(await only(grey), [77, 77, 77], 'grey')
  const deep = await sharp(grey).toColourspace('rgb16').png().toBuffer()
  t.equal((await sharp(deep).metadata()).depth, 'ushort')
  t.same(await only(deep), [77, 77, 77], '16 bits')
  // Two pixels side by side, with an orientation of a quarter turn: one above the other.
  const raw = sharp(Buffer.of(255, 0, 0, 0, 0, 255), { raw: { width: 2, height: 1, channels: 3 } })
  const turned = await toTensor(
    await raw
      .withExif({ IFD0: { Orientation: '6' } })
      .withMetadata({ orientation: 6 })
      .png()
      .toBuffer(),
  )
  t.same(turned.shape, [1, 3, 2, 1], 'upright')
})

t.test('resizing crops to the centre', async (t) => {
  // Black, white, black thirds in 30×10; a square crop is the white third in the middle.
  const data = new Uint8Array(30 * 10 * 3).map((_, i) =>
    Math.trunc(i / 3) % 30 >= 10 && Math.trunc(i / 3) % 30 < 20 ? 255 : 0,
  )
  const square = await toTensor(new Image(30, 10, data), { width: 10, height: 10 })
  t.ok(square.data.every((value) => value === 1))
})

t.test('images that cannot be read', async (t) => {
  const dir = t.testdir({ 'text.png': 'not an image', 'cut.png': '' })
  writeFileSync(join(dir, 'cut.png'), (await gradient(50, 50).toBuffer()).subarray(0, 200))
  for (const name of ['none.png', 'text.png', 'cut.png', '']) {
    const path = join(dir, name)
    await t.rejects(toTensor(path), {
      name: 'DiffusionError',
      code: 'IO',
      message: new RegExp(`Cannot read ${path}: .+`),
    })
  }
  await t.rejects(toTensor(join(dir, 'none.png')), { message: /there is no such file/ })
  await t.rejects(toTensor(Buffer.alloc(0)), DiffusionError)
  await t.rejects(toTensor(7 as unknown as string), {
    name: 'TypeError',
    message: /path, data: URL, encoded image \(Uint8Array\) or Image .* 7 of type number/,
  })
  t.notOk(existsSync(join(dir, 'none.png')))
})

t.test('previews of latents', (t) => {
  const latents = { data: Float32Array.of(1, 0, 0, 1, 0, 0, 0, 0), shape: [1, 4, 1, 2] }
  // First pixel: 0.298, 0.207, 0.208 of −1…1; second: 0.187, 0.286, 0.173.
  t.same([...latentPreview(latents).data], [165, 154, 154, 151, 164, 150])
  t.same(latentPreview(latents, STABLE_DIFFUSION_FACTORS).data, latentPreview(latents).data)
  t.same(
    [...latentPreview(latents, null).data],
    [255, 0, 128, 0, 255, 128],
    'four channels of another autoencoder',
  )
  const two = { data: Float32Array.of(0, 1, 2, 3, -5, 5), shape: [1, 3, 1, 2] }
  t.same([...latentPreview(two).data], [0, 0, 0, 255, 255, 255])
  t.same(
    [...latentPreview({ data: Float32Array.of(4, 4), shape: [2, 1, 1, 1] }, null, 1).data],
    [128, 128, 128],
  )
  const factors = [
    [1, 0, 0],
    [0, 0, 0],
    [0, 0, 0.2],
  ] as const
  t.same([...latentPreview(two, factors).data], [128, 128, 0, 255, 128, 255])
  t.throws(() => latentPreview(two, [[1, 0, 0]]), { name: 'RangeError', message: /3 latent channels/ })
  t.throws(() => latentPreview({ data: two.data, shape: [1, 4, 1, 2] }), RangeError)
  t.throws(() => latentPreview(two, null, 1), RangeError)
  t.end()
})
