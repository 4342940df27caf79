import { crc32, deflateRawSync } from 'node:zlib'
import { count, u32, u64, type TestTensor } from './helpers.js'

/** Assembles pickles and zip archives as torch.save() writes them, and as it would never do. */

const u16 = (v: number) => Buffer.from(new Uint16Array([v]).buffer)

export interface TestEntry {
  name: string
  content: Buffer
  deflated?: boolean
  /** Changes of the central directory. */
  bytes?: number
  packed?: number
  header?: number
  method?: number
  flags?: number
}

/** A zip archive. */
export function zipBytes(entries: TestEntry[], count = entries.length, zip64 = false): Buffer {
  const parts: Buffer[] = []
  const directory: Buffer[] = []
  let at = 0
  for (const entry of entries) {
    const name = Buffer.from(entry.name)
    const data = entry.deflated ? deflateRawSync(entry.content) : entry.content
    const method = entry.method ?? (entry.deflated ? 8 : 0)
    const common = (packed: number, bytes: number) => [
      u16(entry.flags ?? 0),
      u16(method),
      u32(0),
      u32(typeof crc32 === 'function' ? crc32(entry.content) : 0),
      u32(packed),
      u32(bytes),
      u16(name.length),
      u16(0),
    ]
    const local = [u32(0x04034b50), u16(20), ...common(data.length, entry.content.length), name, data]
    const numbers = [entry.bytes ?? entry.content.length, entry.packed ?? data.length, entry.header ?? at]
    const [bytes, packed, header] = zip64 ? [0xffffffff, 0xffffffff, 0xffffffff] : numbers
    // Another field comes before that of zip64.
    const extra = zip64
      ? Buffer.concat([u16(0x5455), u16(1), Buffer.alloc(1), u16(1), u16(24), ...numbers.map(u64)])
      : Buffer.alloc(0)
    const described = common(packed, bytes)
    described[7] = u16(extra.length)
    directory.push(
      ...[u32(0x02014b50), u16(20), u16(20)],
      ...described,
      ...[u16(0), u16(0), u16(0), u32(0), u32(header), name, extra],
    )
    parts.push(...local)
    at += local.reduce((sum, { length }) => sum + length, 0)
  }
  const size = directory.reduce((sum, { length }) => sum + length, 0)
  const end = [u32(0x06054b50), u16(0), u16(0), u16(count), u16(count), u32(size), u32(at), u16(0)]
  if (!zip64) return Buffer.concat([...parts, ...directory, ...end])
  const versions = [u16(45), u16(45), u32(0), u32(0)]
  const record = [u32(0x06064b50), u64(44), ...versions, u64(count), u64(count), u64(size), u64(at)]
  const locator = [u32(0x07064b50), u32(0), u64(at + size), u32(1)]
  const none = [u16(0xffff), u16(0xffff), u32(0xffffffff), u32(0xffffffff)]
  const last = [u32(0x06054b50), u16(0), u16(0), ...none, u16(0)]
  return Buffer.concat([...parts, ...directory, ...record, ...locator, ...last])
}

/** A PyTorch file of this pickle and these storages. */
export function torchZip(pickle: Buffer, storages: Record<string, Buffer> = {}): Buffer {
  return zipBytes([
    { name: 'archive/data.pkl', content: pickle },
    ...Object.entries(storages).map(([key, content]) => ({ name: `archive/data/${key}`, content })),
  ])
}

// Operations of pickles.

export const op = (...codes: (number | string | Buffer)[]) =>
  Buffer.concat(
    codes.map((c) =>
      typeof c === 'number' ? Buffer.from([c]) : typeof c === 'string' ? Buffer.from(c, 'latin1') : c,
    ),
  )
export const text = (s: string) => op('X', u32(Buffer.byteLength(s)), Buffer.from(s))
export const int = (v: number) => op('J', Buffer.from(new Int32Array([v]).buffer))
export const global = (module: string, name: string) => op('c', `${module}\n${name}\n`)
export const tuple = (...values: Buffer[]) => op('(', ...values, 't')
export const put = (index: number) => op('r', u32(index))
export const get = (index: number) => op('j', u32(index))
/** A whole pickle that ends with its value. */
export const pickle = (...parts: Buffer[]) => op(0x80, 2, ...parts, '.')

/** A storage by its persistent id. */
export const storage = (key: string, elements: number | Buffer, type = 'FloatStorage') =>
  op(
    tuple(
      text('storage'),
      global('torch', type),
      text(key),
      text('cpu'),
      typeof elements === 'number' ? int(elements) : elements,
    ),
    'Q',
  )

export interface TestView {
  storage?: Buffer
  offset?: Buffer
  shape?: Buffer
  strides?: Buffer
}

/** A tensor of two elements, or with these changes. */
export const tensor = (view: TestView = {}) =>
  op(
    global('torch._utils', '_rebuild_tensor_v2'),
    tuple(
      view.storage ?? storage('0', 2),
      view.offset ?? int(0),
      view.shape ?? tuple(int(2)),
      view.strides ?? tuple(int(1)),
      op(0x89),
      op('}'),
    ),
    'R',
  )

/** A dictionary with one item. */
export const dictionary = (key: string, value: Buffer) => op('}', text(key), value, 's')

/** A PyTorch file of these tensors, which all share one storage of zeros. */
export function torchFile(tensors: Record<string, TestTensor>): Buffer {
  const largest = Math.max(...Object.values(tensors).map(({ shape }) => count(shape)))
  const items = Object.entries(tensors).flatMap(([name, { shape }]) => {
    const strides = shape.map((_, i) => count(shape.slice(i + 1)))
    const view = { shape: tuple(...shape.map(int)), strides: tuple(...strides.map(int)) }
    return [text(name), tensor({ storage: storage('0', largest, 'HalfStorage'), ...view })]
  })
  return torchZip(pickle(op('}', '(', ...items, 'u')), { 0: Buffer.alloc(2 * largest) })
}

export { u16, u32, u64 }
