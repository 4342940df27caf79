/** What happens to what is already at the path of a file that is written. */
import { execFileSync, spawnSync } from 'node:child_process'
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { writeNewFile, writeWholeFile } from '../../lib/image/index.js'
import { GgufWriter } from '../../lib/models/formats/gguf-writer.js'

const data = Buffer.from('new')
const tensors = [{ name: 'a', type: 'f32' as const, shape: [4] }]

/** Both ways in which the package writes files. */
const writers: Record<string, (path: string) => Promise<void>> = {
  image: (path) => writeWholeFile(path, data),
  model: async (path) => {
    const writer = await GgufWriter.create(path, {}, tensors)
    await writer.write(new Uint8Array(16))
    await writer.finish()
  },
}
const isNew = (path: string) => /^(new$|GGUF)/.test(readFileSync(path, 'latin1'))
const namedPipe = (t: Test, name = 'pipe') => {
  const path = join(t.testdir(), name)
  execFileSync('mkfifo', [path])
  return path
}

for (const [kind, write] of Object.entries(writers)) {
  t.test(`${kind}: a link stays, and what it leads to is replaced`, async (t) => {
    const dir = t.testdir({ far: { folder: {}, 'old.bin': 'old' } })
    symlinkSync('far/old.bin', join(dir, 'link.bin'))
    symlinkSync('link.bin', join(dir, 'second.bin'))
    await write(join(dir, 'second.bin'))
    t.equal(readlinkSync(join(dir, 'second.bin')), 'link.bin')
    t.equal(readlinkSync(join(dir, 'link.bin')), 'far/old.bin')
    t.ok(isNew(join(dir, 'far/old.bin')))

    // `..` in a link is the parent of the folder that the link is in, not of the name by which that was reached.
    symlinkSync('far/folder', join(dir, 'near'))
    symlinkSync('../none.bin', join(dir, 'far/folder/dangling.bin'))
    await write(join(dir, 'near/dangling.bin'))
    t.ok(isNew(join(dir, 'far/none.bin')), 'a link to a file that does not exist yet')
    t.same(readdirSync(dir).sort(), ['far', 'link.bin', 'near', 'second.bin'], 'nothing else is left')
    t.same(readdirSync(join(dir, 'far')).sort(), ['folder', 'none.bin', 'old.bin'])

    symlinkSync('b', join(dir, 'a'))
    symlinkSync('a', join(dir, 'b'))
    await t.rejects(write(join(dir, 'a')), { code: 'IO', message: /ELOOP/ })
  })

  t.test(`${kind}: a file keeps its mode`, async (t) => {
    const path = join(t.testdir({ 'a.bin': 'old' }), 'a.bin')
    for (const mode of [0o600, 0o640, 0o666]) {
      chmodSync(path, mode)
      await write(path)
      t.equal(statSync(path).mode & 0o777, mode)
      t.ok(isNew(path))
    }
  })

  t.test(`${kind}: the longest name that the file system takes`, async (t) => {
    const dir = t.testdir()
    for (const name of ['猫'.repeat(85), 'x'.repeat(255)]) {
      await write(join(dir, name))
      t.ok(isNew(join(dir, name)))
    }
    await t.rejects(write(join(dir, 'x'.repeat(256))), {
      code: 'IO',
      message: /name is too long \(ENAMETOOLONG\)/,
    })
    t.equal(readdirSync(dir).length, 2)
  })

  t.test(`${kind}: devices, pipes, folders`, async (t) => {
    const dir = t.testdir({ folder: {} })
    await write('/dev/null')
    t.ok(lstatSync('/dev/null').isCharacterDevice())
    await t.rejects(write('/dev/full'), {
      code: 'IO',
      message: 'Cannot write /dev/full: no space left on the device (ENOSPC)',
    })
    t.ok(lstatSync('/dev/full').isCharacterDevice())
    await t.rejects(write(join(dir, 'folder')), { code: 'IO', message: /it is a folder/ })
    await t.rejects(write(join(dir, 'none/a.bin')), {
      code: 'IO',
      message: /there is no folder .*none \(ENOENT\)/,
    })
    await t.rejects(write(join(dir, '\u001b[31m/a')), { message: /folder .*\\u001b\[31m/ }, 'escaped')
    t.same(readdirSync(dir), ['folder'])
  })

  t.test(`${kind}: a file without write permission is not replaced`, async (t) => {
    const dir = t.testdir({ 'a.bin': 'old' })
    chmodSync(dir, 0o777)
    chmodSync(join(dir, 'a.bin'), 0o444)
    const root = process.geteuid!() === 0
    if (root) process.seteuid!(65534) // root may write everywhere
    try {
      await t.rejects(write(join(dir, 'a.bin')), { code: 'IO', message: /permission denied \(EACCES\)/ })
    } finally {
      if (root) process.seteuid!(0)
    }
    t.equal(readFileSync(join(dir, 'a.bin'), 'utf8'), 'old')
  })
}

t.test('a named pipe takes the data of an image', async (t) => {
  const path = namedPipe(t)
  const large = Buffer.alloc(1 << 20, 7)
  const read = readFile(path)
  await writeWholeFile(path, large)
  t.ok((await read).equals(large))
  t.ok(lstatSync(path).isFIFO())
})

t.test('a named pipe without a reader', async (t) => {
  const path = namedPipe(t)
  await t.rejects(writeWholeFile(path, data, AbortSignal.timeout(20)), { name: 'TimeoutError' })
  await t.rejects(writers.model(path), { code: 'IO', message: /it is a named pipe, not a file/ })
  t.ok(lstatSync(path).isFIFO())
})

t.test('a new file never replaces another', async (t) => {
  const dir = t.testdir()
  const path = join(dir, 'a.bin')
  const results = await Promise.all(
    Array.from({ length: 20 }, (_, i) => writeNewFile(path, Buffer.from([i]))),
  )
  t.equal(results.filter(Boolean).length, 1)
  t.equal(readFileSync(path)[0], results.indexOf(true))
  symlinkSync('nowhere', join(dir, 'link'))
  t.equal(await writeNewFile(join(dir, 'link'), data), false)
  mkdirSync(join(dir, 'folder'))
  t.equal(await writeNewFile(join(dir, 'folder'), data), false)
  writeFileSync(join(dir, 'closed'), 'old', { mode: 0o400 })
  t.equal(await writeNewFile(join(dir, 'closed'), data), false)
  t.same(readdirSync(dir).sort(), ['a.bin', 'closed', 'folder', 'link'])
})

t.test('process.exit() leaves no temporary file', async (t) => {
  const dir = t.testdir()
  const library = (name: string) => JSON.stringify(new URL(`../../lib/${name}`, import.meta.url).href)
  const code = `
    import { writeWholeFile } from ${library('image/index.js')}
    import { GgufWriter } from ${library('models/formats/gguf-writer.js')}
    const writer = await GgufWriter.create('a.gguf', {}, [{ name: 'a', type: 'f32', shape: [1 << 22] }])
    void writer.write(new Uint8Array(1 << 23))
    for (let i = 0; i < 8; i++) void writeWholeFile('b' + i, new Uint8Array(1 << 23))
    setTimeout(() => process.exit(7), Number(process.argv[1]))`
  for (const delay of [0, 1, 2, 4, 8]) {
    const { status, stderr } = spawnSync(
      process.execPath,
      ['--input-type=module', '-e', code, String(delay)],
      {
        cwd: dir,
        encoding: 'utf8',
      },
    )
    t.equal(status, 7, stderr)
    t.notOk(readdirSync(dir).some((name) => name.endsWith('.tmp')))
    for (const name of readdirSync(dir))
      t.equal(statSync(join(dir, name)).size, 1 << 23, 'complete or absent')
  }
})
