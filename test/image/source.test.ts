/** Input images that are huge, replaced, no files, or of another form than expected. */
import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { deflateSync, gzipSync } from 'node:zlib'
import sharp from 'sharp'
import t from 'tap'
import { DiffusionPipeline, Image, imageToTensor } from '../../lib/index.js'
import { packageRoot } from '../../lib/package-root.js'
import { quick } from '../pipeline/support.js'
import { allocatesNothing } from '../hostile/refusal.js'

const plain = (width: number, height: number, background: string) =>
  sharp({ create: { width, height, channels: 3, background } })

/** The first pixel, in 0…255. */
async function colour(input: string | Uint8Array): Promise<number[]> {
  const { data, shape } = await imageToTensor(input)
  const plane = shape[2] * shape[3]
  return [0, 1, 2].map((channel) => Math.round((data[channel * plane] + 1) * 127.5))
}

/** A PNG header that claims this size, without pixels. */
function claimedPng(width: number, height: number): Buffer {
  const chunk = (type: string, body: Buffer) => {
    const out = Buffer.alloc(12 + body.length)
    out.writeUInt32BE(body.length, 0)
    out.write(type, 4, 'latin1')
    body.copy(out, 8)
    let crc = 0xffffffff
    for (const byte of out.subarray(4, 8 + body.length)) {
      crc ^= byte
      for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1
    }
    out.writeUInt32BE(~crc >>> 0, 8 + body.length)
    return out
  }
  const header = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 8, 2, 0, 0, 0])
  header.writeUInt32BE(width, 0)
  header.writeUInt32BE(height, 4)
  const signature = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1')
  const pixels = deflateSync(Buffer.alloc(1000))
  return Buffer.concat([
    signature,
    chunk('IHDR', header),
    chunk('IDAT', pixels),
    chunk('IEND', Buffer.alloc(0)),
  ])
}

const svg = (width: number, height: number, content = '') =>
  Buffer.from(
    `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" ` +
      `width="${width}" height="${height}">${content}</svg>`,
  )

t.test('images that claim to be huge are refused by their headers', async (t) => {
  await using pipe = await DiffusionPipeline.load()
  const bombs: Record<string, [Buffer, RegExp]> = {
    PNG: [claimedPng(16383, 16383), /^Expected at most 134 megapixels for \w+ but received 16383×16383$/],
    SVG: [svg(30000, 30000), /megapixels for \w+ but received 30000×30000$/],
    'a small AVIF': [
      // A sequence header of 16384×16384 is patched into a file of 64×64: width and height in ispe.
      patchedAvif(await plain(64, 64, '#123').avif({ effort: 0 }).toBuffer(), 9000),
      /^Expected at most 1.0 GiB for decoding \w+, but 9000×9000 as heif takes 1.5 GiB$/,
    ],
  }
  for (const [name, [file, message]] of Object.entries(bombs)) {
    await t.rejects(imageToTensor(file), { name: 'RangeError', message }, name)
    await t.rejects(imageToTensor(file, { width: 8, height: 8 }), { name: 'RangeError', message })
    await t.rejects(pipe.generate({ ...quick, image: file }), { name: 'RangeError', message })
    const image = new Image(64, 64, new Uint8Array(3 * 64 * 64))
    await t.rejects(pipe.generate({ ...quick, image, mask: file }), { name: 'RangeError', message })
    await allocatesNothing(t, 20, () => imageToTensor(file))
    await allocatesNothing(t, 20, () => pipe.generate({ ...quick, image: file }))
  }
})

t.test('libvips says nothing on stderr about absurd sizes', async (t) => {
  const avif = await plain(64, 64, '#123').avif({ effort: 0 }).toBuffer()
  const references = '&#49;&#x30;00000000'
  const files: Record<string, Buffer> = {
    AVIF: patchedAvif(avif, 2 ** 31 - 1),
    'AVIF, wide': patchedAvif(avif, 100_000_001, 1),
    'AVIF, high': patchedAvif(avif, 1, 100_000_001),
    SVG: svg(1e9, 1e9),
    'SVG in millimetres': Buffer.from(
      '<svg xmlns="http://www.w3.org/2000/svg" width="9e7mm" height=\'1mm\'/>',
    ),
    'SVG by its viewBox': Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 200000000 1"/>'),
    'SVG by one side': Buffer.from(
      '<svg xmlns="http://www.w3.org/2000/svg" width="300" viewBox="0,0,1,1e6"/>',
    ),
    'SVG, escaped': Buffer.from(`<svg xmlns="http://www.w3.org/2000/svg" width="${references}" height="5"/>`),
    'SVG, compressed': gzipSync(svg(1e9, 1e9)),
  }
  const source = `
    import { readFileSync } from 'node:fs'
    import { imageToTensor } from ${JSON.stringify(new URL('../../lib/index.js', import.meta.url).href)}
    const [file] = process.argv.slice(1)
    await imageToTensor(readFileSync(file)).catch((error) => console.log(error.message))`
  for (const [name, bytes] of Object.entries(files)) {
    const path = join(t.testdir({}), name)
    writeFileSync(path, bytes)
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', source, path], {
      encoding: 'utf8',
    })
    t.match(
      stdout,
      /^Expected (at most 134 megapixels|sides of at most 10000000 pixels) for image but received /,
      name,
    )
    t.equal(stderr, '', name)
  }
  // The sizes that libvips takes are still its own.
  for (const file of [avif, svg(20, 10), gzipSync(svg(20, 10))])
    t.ok((await imageToTensor(file)).shape[3] >= 20)
})

function patchedAvif(file: Buffer, width: number, height = width): Buffer {
  const patched = Buffer.from(file)
  const at = patched.indexOf('ispe')
  patched.writeUInt32BE(width, at + 8)
  patched.writeUInt32BE(height, at + 12)
  return patched
}

t.test('an image much larger than the model is scaled to its size', async (t) => {
  await using pipe = await DiffusionPipeline.load()
  const photo = await plain(4032, 3024, '#654').jpeg().toBuffer()
  const { images, warnings } = await pipe.generate({ ...quick, image: photo })
  t.same([images[0].width, images[0].height], [72, 56])
  t.match(warnings.join(), /scaled from 4032×3024 to 72×56, .*: give width and height for another size/)
  const twice = await pipe.generate({ ...quick, image: await plain(130, 126, '#654').png().toBuffer() })
  t.same(
    [twice.images[0].width, twice.images[0].height],
    [128, 124],
    'up to four times the pixels it is kept',
  )
  t.notMatch(twice.warnings.join(), /scaled/)
  const given = await pipe.generate({ ...quick, image: photo, width: 96, height: 64 })
  t.same([given.images[0].width, given.images[0].height], [96, 64])
  t.notMatch(given.warnings.join(), /scaled/)
})

t.test('an abort while an image is decoded', async (t) => {
  // Decoding 49 megapixels of AVIF takes seconds.
  const slow = await plain(7000, 7000, '#123').avif({ effort: 0 }).toBuffer()
  await using pipe = await DiffusionPipeline.load()
  const calls: ((signal: AbortSignal) => Promise<unknown>)[] = [
    (signal: AbortSignal) => imageToTensor(slow, { width: 64, height: 64 }, { signal }),
    (signal: AbortSignal) => pipe.generate({ ...quick, image: slow, signal }),
  ]
  for (const call of calls) {
    // A busy machine can delay any attempt: what we cause ourselves shows in each.
    let fastest = Infinity
    for (let attempt = 0; attempt < 5 && !(fastest < 500); attempt++) {
      const controller = new AbortController()
      let ended = false
      const running = call(controller.signal).finally(() => (ended = true))
      running.catch(() => {})
      await new Promise((resolve) => setTimeout(resolve, 100))
      if (ended) continue
      const began = performance.now()
      controller.abort(new Error('enough'))
      await t.rejects(running as Promise<void>, { message: 'enough' })
      fastest = Math.min(fastest, performance.now() - began)
    }
    t.ok(fastest < 500, `rejected after ${Math.round(fastest)} ms while it was decoding`)
  }
})

t.test('a file that is replaced gives the new image', async (t) => {
  const dir = t.testdir()
  for (const format of ['webp', 'png', 'jpeg', 'avif', 'gif'] as const) {
    const path = join(dir, `a.${format}`)
    for (const [background, expected] of [
      ['#ff0000', [255, 0, 0]],
      ['#0000ff', [0, 0, 255]],
    ] as const) {
      await plain(16, 16, background).toFormat(format).toFile(path)
      const found = await colour(path)
      t.ok(
        found.every((value, i) => Math.abs(value - expected[i]) < 12),
        `${format} ${background}: ${found}`,
      )
    }
  }
  const path = join(dir, 'a.svg')
  for (const [fill, expected] of [
    ['red', [255, 0, 0]],
    ['blue', [0, 0, 255]],
  ] as const) {
    writeFileSync(path, svg(8, 8, `<rect width="8" height="8" fill="${fill}"/>`))
    t.same(await colour(path), expected)
  }
})

t.test('an SVG reads no other files', async (t) => {
  const secret = await plain(8, 8, '#ff0000').png().toBuffer()
  const dir = t.testdir({ 'secret.png': secret })
  const path = join(dir, 'a.svg')
  for (const href of ['secret.png', `file://${dir}/secret.png`]) {
    writeFileSync(path, svg(8, 8, `<image width="8" height="8" href="${href}" xlink:href="${href}"/>`))
    t.same(await colour(path), [255, 255, 255], href)
  }
  const inside = `data:image/png;base64,${secret.toString('base64')}`
  writeFileSync(path, svg(8, 8, `<image width="8" height="8" href="${inside}"/>`))
  t.same(await colour(path), [255, 0, 0], 'what it holds itself is drawn')
})

t.test('data: URLs and base64 text', async (t) => {
  const png = await plain(2, 2, '#ff0000').png().toBuffer()
  const text = png.toString('base64')
  t.same(await colour(`data:image/png;base64,${text}`), [255, 0, 0])
  t.same(await colour(`DATA:;base64,${text}`), [255, 0, 0])
  const drawn = svg(2, 2, '<rect width="2" height="2" fill="#00f"/>').toString()
  t.same(await colour(`data:image/svg+xml,${encodeURIComponent(drawn)}`), [0, 0, 255])
  await using pipe = await DiffusionPipeline.load()
  t.equal((await pipe.generate({ ...quick, image: `data:image/png;base64,${text}` })).images.length, 1)
  const long = Buffer.alloc(6e6, 'noise').toString('base64')
  for (const [input, message] of [
    [
      long,
      /^Cannot read "[\w+/]{60}…": there is no such file. Base64 text needs "data:image\/png;base64," in front of it$/,
    ],
    [`data:${long}`, /^Cannot read the data: URL for image: it begins with "data:[\w+/]{55}…"$/],
    [`data:image/png;base64,${long}`, /^Cannot read the data: URL for image: .{1,200}$/],
    ['data:,%zz', /^Cannot read the data: URL for image: it begins with "data:,%zz"$/],
    ['\u001b[2J.png', /^Cannot read \\u001b\[2J\.png: there is no such file$/],
    ['a\0b.png', /^Cannot read a\\u0000b\.png: a path cannot contain a null byte$/],
  ] as const)
    await t.rejects(imageToTensor(input), { name: 'DiffusionError', code: 'IO', message })
})

t.test('sizes and options', async (t) => {
  const image = new Image(2, 2, new Uint8Array(12))
  for (const size of [
    5,
    null,
    [],
    { width: 2 },
    { width: '2', height: 2 },
    { width: 2, height: 2, depth: 1 },
  ])
    await t.rejects(imageToTensor(image, size as never), { name: 'TypeError' })
  for (const width of [0, -1, 1.5, NaN, 2 ** 21])
    await t.rejects(imageToTensor(image, { width, height: 2 }), { name: 'RangeError' })
  await t.rejects(imageToTensor(image, undefined, { signal: 1 as never }), { name: 'TypeError' })
  await t.rejects(imageToTensor(image, { width: 2 ** 20, height: 2 ** 20 }), { code: 'OUT_OF_MEMORY' })
  const encode = (format: unknown, options: unknown) => image.toBuffer(format as 'png', options as never)
  await t.rejects(encode('png', { qualty: 5 }), {
    name: 'TypeError',
    message: /qualty, did you mean quality\?/,
  })
  await t.rejects(encode('webp', { lossless: 1 }), { name: 'TypeError', message: /boolean for lossless/ })
  await t.rejects(encode('jpeg', { quality: '90' }), { name: 'TypeError', message: /for quality/ })
  await t.rejects(encode('png', { quality: 0 }), { name: 'RangeError' })
  await t.rejects(encode(5, {}), { name: 'TypeError' })
  await t.rejects(image.toFile('a.png', { sginal: 1 } as never), { message: /did you mean signal\?/ })
  await t.rejects(image.toFile(5 as never), { name: 'TypeError', message: /string for path/ })
})

t.test('a package that could not be loaded is loaded later', async (t) => {
  // The first import fails for want of file descriptors, the second call has them again.
  const library = JSON.stringify(new URL('../../lib/index.js', import.meta.url).href)
  const code = `
    import { closeSync, openSync } from 'node:fs'
    import { Image, Tokenizer } from ${library}
    const image = new Image(2, 2, new Uint8Array(12))
    const calls = { sharp: () => image.toBuffer(), tokenizers: () => Tokenizer.create(null) }
    for (const [name, call] of Object.entries(calls)) {
      const held = []
      try { for (;;) held.push(openSync('/dev/null')) } catch {}
      const first = await call().then(() => 'loaded', (error) => error.code)
      held.forEach(closeSync)
      const second = await call().then(() => 'loaded', (error) => error.message)
      console.log(name, first, second)
    }`
  const said = execFileSync(
    'bash',
    ['-c', 'ulimit -n 200; exec "$0" --input-type=module -e "$1"', process.execPath, code],
    { encoding: 'utf8', cwd: packageRoot(), env: { ...process.env, NODE_OPTIONS: '' } },
  )
  t.equal(said, 'sharp IO loaded\ntokenizers IO loaded\n')
})

t.test('a caller that changes its bytes', async (t) => {
  const bytes = new Uint8Array(readFileSync(join(packageRoot(), 'test/fixtures/pipeline/text-ddim.png')))
  const expected = await imageToTensor(bytes)
  const running = imageToTensor(bytes)
  bytes.fill(0)
  t.same((await running).data, expected.data)
})
