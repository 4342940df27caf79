/** Pickles that a trainer would never write: code, bombs, lies. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { findGlobal } from '../../lib/models/formats/pickle/globals.js'
import { readPickle, Storages } from '../../lib/models/formats/pickle/index.js'
import { PickleInput } from '../../lib/models/formats/pickle/input.js'
import { PickleMachine } from '../../lib/models/formats/pickle/machine.js'
import { findStateDict } from '../../lib/models/formats/pickle/state-dict.js'
import { DiffusionError } from '../../lib/errors.js'
import { packageRoot } from '../../lib/package-root.js'
import { DelayWatch } from './harness.js'
import { freshPath, fuzz, randomizer, rejects, t, writeSparse } from '../model-files/helpers.js'
import {
  dictionary,
  get,
  global,
  int,
  op,
  pickle,
  put,
  storage,
  tensor,
  text,
  torchZip,
  tuple,
  u32,
  u64,
  zipBytes,
  type TestEntry,
} from '../model-files/pickles.js'
import type { Test } from 'tap'

const ZEROS = Buffer.alloc(8)
const write = (test: Test, bytes: Buffer) => writeSparse(freshPath(test, '.pt'), bytes)
/** A file whose pickle is these operations. */
const run = (test: Test, ...parts: Buffer[]) =>
  readPickle(write(test, torchZip(pickle(...parts), { 0: ZEROS })))
const repeat = (count: number, part: Buffer) => Buffer.alloc(count * part.length, part)

t.test('only tensors and plain containers', async (t) => {
  const names: [string, string][] = [
    ['os', 'system'],
    ['posix', 'system'],
    ['nt', 'system'],
    ['subprocess', 'Popen'],
    ['builtins', 'eval'],
    ['builtins', 'exec'],
    ['builtins', 'getattr'],
    ['__builtin__', 'eval'],
    ['torch', 'load'],
    ['torch.storage', '_load_from_bytes'],
    ['torch.hub', 'load'],
    ['numpy.core.multiarray', '_reconstruct'],
    ['torch._utils', '_rebuild_tensor_v2.__globals__'],
    ['collections', 'OrderedDict.__class__'],
    ['torch', '__proto__'],
    ['torch', 'constructorStorage'],
    ['', 'constructor'],
    ['__proto__', 'toString'],
    ['runpy', '_run_code'],
  ]
  for (const [module, name] of names) {
    t.equal(findGlobal(module, name), undefined)
    const stacked = op(text(module), text(name), op(0x93))
    for (const found of [global(module, name), stacked, op('(', 'i', `${module}\n${name}\n`)])
      await rejects(
        t,
        run(t, found),
        'UNSUPPORTED_MODEL',
        /uses the Python object ".*", which is refused/,
        name,
      )
  }
})

t.test('calls', async (t) => {
  const dict = global('collections', 'OrderedDict')
  // prettier-ignore
  const cases: [string, Buffer, RegExp][] = [
    ['a text is called', op(text('x'), op(')R')), /expected a function/],
    ['a tensor is called', op(tensor(), op(')R')), /expected a function/],
    ['a storage class is called', op(global('torch', 'FloatStorage'), op(')R')), /expected a function/],
    ['arguments are no tuple', op(dict, int(1), op('R')), /expected the arguments/],
    ['pairs are no pairs', op(dict, tuple(op('(', int(1), 'l')), op('R')), /expected a pair/],
    ['a state of a list', op(']', '}', 'b'), /expected an object with a state/],
    ['a rebuilder that is none', op(global('torch._tensor', '_rebuild_from_type_v2'), tuple(dict, dict, op(')'), op('}')), op('R')), /expected a function that rebuilds/],
    ['a rebuilder that rebuilds itself', op(global('torch._tensor', '_rebuild_from_type_v2'), put(1), tuple(get(1), get(1), tuple(get(1)), op('}')), op('R')), /expected a function that rebuilds/],
    ['a parameter of a number', op(global('torch._utils', '_rebuild_parameter'), tuple(int(1)), op('R')), /expected a tensor/],
  ]
  for (const [name, program, message] of cases)
    await rejects(t, run(t, program), 'MODEL_FORMAT', message, name)
})

t.test('programs', async (t) => {
  // prettier-ignore
  const cases: [string, Buffer, RegExp][] = [
    ['no end', op(0x80, 2, '}'), /truncated: the pickle needs 1 bytes/],
    ['nothing', op(0x80, 2, '.'), /expected one value at the end, found 0/],
    ['two values', op(0x80, 2, ']]', '.'), /expected one value at the end, found 2/],
    ['an open mark', op(0x80, 2, ']', '(', '.'), /expected one value at the end/],
    ['an empty stack', op(0x80, 2, '0'), /expected a value on the stack/],
    ['below a mark', op(0x80, 2, ']', '(', 'a'), /expected a value on the stack/],
    ['no mark', op(0x80, 2, ']', 'u'), /expected a mark/],
    ['a future protocol', op(0x80, 9), /expected protocol 5 or less, found 9/],
    ['an unknown operation', op(0x80, 2, 0xff), /byte 2: operation 0xff is not supported|operation 0xff/],
    ['an extension', op(0x80, 2, 0x82, 1), /operation 0x82/],
    ['a persistent id as text', op(0x80, 2, 'P', 'x\n'), /operation 0x50/],
    ['a memo that is empty', op(0x80, 2, get(7)), /expected a value remembered as 7/],
    ['items of a list', op(0x80, 2, ']', int(1), int(1), 's'), /expected a dictionary to fill/],
    ['a key without a value', op(0x80, 2, '}', '(', int(1), 'u'), /a value for each key/],
    ['elements of a dictionary', op(0x80, 2, '}', int(1), 'a'), /expected a list to append to/],
    ['a text longer than the file', op(0x80, 2, 'X', u32(1000)), /truncated/],
    ['a text of 4 GB', op(0x80, 2, 'X', u32(0xffffffff)), /expected at most 4194304 bytes, found 4294967295/],
    ['bytes of 2^63', op(0x80, 2, 0x8e, u64(2n ** 63n)), /truncated/],
    ['an integer of 2 GB', op(0x80, 2, 0x8b, u32(2 ** 31)), /expected at most 256 bytes/],
    ['a line without an end', op(0x80, 2, 'I', repeat(5000, op('1'))), /expected a line of at most 4096 bytes/],
    ['a number that is none', op(0x80, 2, 'I', 'x\n'), /expected an operand of INT/],
  ]
  for (const [name, program, message] of cases)
    await rejects(t, readPickle(write(t, torchZip(program))), 'MODEL_FORMAT', message, name)
  const numbers = pickle(
    op(
      '(',
      'I-7\n',
      'L12345678901234567890L\n',
      'I01\n',
      'F1e3\n',
      "S'x'\n",
      'Vy\n',
      op(0x8a, 0),
      op(0x8a, 1, 255),
      'l',
    ),
    op('0', dictionary('x', tensor())),
  )
  t.same([...(await readPickle(write(t, torchZip(numbers, { 0: ZEROS })))).tensors.keys()], ['x'])
})

t.test('tensors that lie', async (t) => {
  const long = (v: bigint) => op(0x8a, 8, Buffer.from(new BigInt64Array([v]).buffer))
  // prettier-ignore
  const cases: [string, Buffer, RegExp][] = [
    ['beyond the storage', tensor({ shape: tuple(int(3)) }), /shape \[3\] within the 2 elements/],
    ['an offset beyond it', tensor({ offset: int(1) }), /within the 2 elements/],
    ['strides beyond it', tensor({ strides: tuple(int(9)) }), /within the 2 elements/],
    ['a negative offset', tensor({ offset: int(-1) }), /expected the offset/],
    ['a negative shape', tensor({ shape: tuple(int(-2)) }), /expected the shape/],
    ['a negative stride', tensor({ strides: tuple(int(-1)) }), /expected 1 strides/],
    ['a shape of text', tensor({ shape: text('2') }), /expected the shape/],
    ['a fraction', tensor({ shape: tuple(op('G', Buffer.from([0x3f, 0xe0, 0, 0, 0, 0, 0, 0]))) }), /expected the shape/],
    ['too many dimensions', tensor({ shape: tuple(...Array<Buffer>(9).fill(int(1))) }), /expected the shape/],
    ['other strides', tensor({ strides: tuple(int(1), int(1)) }), /expected 1 strides/],
    ['a product of 2^80', tensor({ shape: tuple(long(2n ** 40n), long(2n ** 40n)), strides: tuple(int(0), int(0)) }), /whose bytes can be counted/],
    ['no storage', tensor({ storage: int(1) }), /expected a storage/],
    ['elements of text', tensor({ storage: storage('0', text('2')) }), /number of elements/],
    ['2^62 elements', tensor({ storage: storage('0', long(2n ** 62n)) }), /number of elements/],
    ['2^52 elements', tensor({ storage: storage('0', long(2n ** 52n)) }), /number of elements/],
    ['more than the entry', tensor({ storage: storage('0', 3) }), /expected 12 bytes of a storage, found 8/],
    ['no entry', tensor({ storage: storage('../0', 2) }), /expected the zip entry "archive\/data\/..\/0"/],
    ['another type', op(tensor(), op('0'), tensor({ storage: storage('0', 2, 'HalfStorage') })), /described twice/],
    ['an id that is no tuple', op(text('0'), op('Q')), /expected the id of a storage/],
    ['an id of another kind', op(tuple(text('module'), global('torch', 'FloatStorage'), text('0'), text('cpu'), int(2)), op('Q')), /expected the id of a storage/],
  ]
  for (const [name, program, message] of cases)
    await rejects(t, run(t, dictionary('x', program)), 'MODEL_FORMAT', message, name)
  // A list as shape that grows after it has been checked.
  const grows = op(
    dictionary('x', tensor({ shape: op('(', int(2), 'l', put(5)), strides: op('(', int(1), 'l') })),
    op(get(5), int(1000), 'a', '0'),
  )
  t.same((await run(t, grows)).tensors.get('x')!.shape, [2])
})

t.test('bombs', async (t) => {
  /** Each list holds the one before it twice: 2^n elements for whoever unfolds it. */
  const doubled = (depth: number, leaf: Buffer, twice: (index: number) => Buffer) => {
    const parts = [leaf, put(0), op('0')]
    for (let i = 0; i < depth; i++) parts.push(twice(i), put(i + 1), op('0'))
    return op(...parts, get(depth))
  }
  const lists = doubled(10_000, op(']'), (i) => op('(', get(i), get(i), 'l'))
  const dictionaries = doubled(10_000, dictionary('x', tensor()), (i) =>
    op('}', '(', text('a'), get(i), text('b'), get(i), 'u'),
  )
  await rejects(t, run(t, lists), 'MODEL_FORMAT', /expected a dictionary of tensors/, 'lists')
  t.same((await run(t, dictionaries)).tensors.size, 0, 'dictionaries')
  t.same(
    (
      await run(
        t,
        doubled(6, dictionary('x', tensor()), (i) => dictionary('a', get(i))),
      )
    ).tensors.size,
    1,
  )

  const deep = op('}', put(0), repeat(100_000, op('}')), repeat(100_000, op('0')))
  t.same((await run(t, deep)).tensors.size, 0)
  const self = op('}', put(0), text('x'), get(0), 's', text('y'), tensor(), 's')
  t.same([...(await run(t, self)).tensors.keys()], ['y'], 'a dictionary that holds itself')

  // prettier-ignore
  const cases: [string, Buffer, RegExp][] = [
    ['nested marks', repeat(300_000, op('(')), /at most 200000 marks/],
    ['a high stack', repeat(300_000, op('K', 1)), /at most 200000 values on its stack/],
    ['copies on the stack', op(']', repeat(300_000, op('2'))), /at most 200000 values/],
    ['objects', repeat(600_000, op(']0')), /at most 500000 objects/],
    ['elements', op(']', repeat(1_100_000, op('K', 1, 'a'))), /at most 1000000 elements in containers/],
    ['memo', op(']', Buffer.concat(Array.from({ length: 1_000_100 }, (_, i) => put(i)))), /at most 1000000 remembered values/],
    ['copies of a list', op('(', repeat(90_000, op('K', 1)), 'l', put(0), '0', repeat(2000, op(global('builtins', 'list'), get(0), op(0x85), 'R0'))), /elements in containers/],
    ['text', repeat(12, op(text('é'.repeat(2 << 20)), '0')), /at most 16777216 characters/],
    ['a memo with gaps', op(']', put(0xffffffff)), /at most 1000000 remembered values/],
  ]
  for (const [name, program, message] of cases) {
    const path = write(t, torchZip(pickle(program)))
    const watch = new DelayWatch()
    watch.start()
    await rejects(t, readPickle(path), 'MODEL_FORMAT', message, name)
    await setTimeout(2)
    watch.pause()
    // CPU time, which other processes lengthen by little. On an idle machine it is below 100 ms.
    t.ok(watch.delay.cpu < 200, `${name}: a turn of the event loop took ${Math.round(watch.delay.cpu)} ms`)
  }
})

t.test('archives that lie', async (t) => {
  const entries = (change: Partial<TestEntry>, second: Partial<TestEntry> = {}): TestEntry[] => [
    { name: 'a/data.pkl', content: pickle(dictionary('x', tensor())), ...change },
    { name: 'a/data/0', content: ZEROS, ...second },
  ]
  const bomb = Buffer.alloc(80 << 20)
  // prettier-ignore
  const cases: [string, Buffer, RegExp][] = [
    ['two pickles', zipBytes([...entries({}), ...entries({ name: 'b/data.pkl' }, { name: 'b/data/0' })]), /several/],
    ['twice the same entry', zipBytes([...entries({}), ...entries({ name: 'c' })]), /"a\/data\/0" is there twice/],
    ['a pickle beyond the file', zipBytes(entries({ bytes: 1 << 30, packed: 1 << 30 })), /expected its header and data/],
    ['a storage beyond the file', zipBytes(entries({}, { bytes: 1 << 30, packed: 1 << 30 })), /expected its header and data/],
    ['an entry in the directory', zipBytes(entries({}, { header: 0x7ffffff0 })), /not before the directory/],
    ['an entry that is none', zipBytes(entries({}, { header: 5 })), /found other bytes/],
    ['stored with two lengths', zipBytes(entries({}, { packed: 4 })), /is stored, but has 4 of 8 bytes/],
    ['entries that are missing', zipBytes(entries({}), 3), /expected 3 entries .* found 2/],
    ['a compressed bomb', zipBytes(entries({ content: bomb, deflated: true })), /at most 67108864 bytes/],
    ['a compressed bomb that lies', zipBytes(entries({ content: bomb, deflated: true, bytes: 1000 })), /cannot be decompressed to its 1000 bytes/],
    ['less than it says', zipBytes(entries({ deflated: true, bytes: 100_000 })), /expected 100000 bytes, found/],
    ['deflated bytes that are not', zipBytes(entries({ method: 8 })), /cannot be decompressed/],
    ['no directory', zipBytes(entries({})).subarray(0, 100), /truncated: expected the directory/],
  ]
  for (const [name, bytes, message] of cases)
    await rejects(t, readPickle(write(t, bytes)), 'MODEL_FORMAT', message, name)
  for (const [name, change] of [
    ['encrypted', { flags: 1 }],
    ['compression method 99', { method: 99, bytes: 9 }],
  ] as const)
    await rejects(
      t,
      readPickle(write(t, zipBytes(entries(change)))),
      'UNSUPPORTED_MODEL',
      new RegExp(name),
      name,
    )
})

t.test('damaged files', async (t) => {
  for (const name of ['trainer', 'trainer-legacy', 'zip-4', 'embedding-module']) {
    const valid = readFileSync(join(packageRoot(), 'test', 'fixtures', 'pickles', `${name}.pt`))
    await fuzz(t, valid, 0, 60, freshPath(t, '.pt'), readPickle)
  }
})

t.test('random programs', async (t) => {
  const parts = [
    ...[
      '(',
      '.',
      '0',
      '1',
      '2',
      'N',
      'Q',
      'R',
      'a',
      'b',
      'd',
      'e',
      'l',
      'o',
      's',
      't',
      'u',
      '}',
      ']',
      ')',
    ].map((c) => op(c)),
    ...[0x81, 0x85, 0x86, 0x87, 0x88, 0x8f, 0x90, 0x91, 0x92, 0x93, 0x94].map((c) => op(c)),
    ...['storage', '0', 'torch', 'FloatStorage'].map(text),
    ...[0, 1, 2, -1, 0x7fffffff].map(int),
    ...[0, 1, 2].flatMap((i) => [put(i), get(i)]),
    ...['_rebuild_tensor_v2', '_rebuild_tensor_v3', '_rebuild_parameter'].map((n) =>
      global('torch._utils', n),
    ),
    ...['OrderedDict', 'Counter', 'defaultdict'].map((n) => global('collections', n)),
    ...['set', 'list', 'tuple', 'bytearray'].map((n) => global('builtins', n)),
    ...['FloatStorage', 'float16', 'Size', 'Tensor'].map((n) => global('torch', n)),
    global('torch.nn.modules.container', 'ParameterDict'),
    storage('0', 2),
    tensor(),
  ]
  const random = randomizer(0x51ed270b)
  let accepted = 0
  for (let round = 0; round < 20_000; round++) {
    // Most operations find their operands, so that programs get far.
    const chosen = Array.from({ length: 2 + random(30) }, () => parts[random(parts.length)])
    const program = random(2) ? op(op('}'), text('x'), ...chosen, op('s')) : op(...chosen)
    const bytes = pickle(program)
    const read = (at: number, length: number) => Promise.resolve(bytes.subarray(at, at + length))
    const machine = new PickleMachine(new PickleInput('random', read, 0, bytes.length), new Storages().load)
    try {
      await findStateDict('random', await machine.run())
      accepted++
    } catch (error) {
      if (error instanceof DiffusionError) continue
      t.fail(`round ${round}: ${String((error as Error).stack)}`)
      return
    }
  }
  t.pass(`20000 programs, ${accepted} accepted`)
})
