/** The prebuilt files themselves, also those that this machine cannot run: what they need, and how they are signed. */
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../../scripts/build-addon.mjs'
import { platforms } from '../../scripts/platforms.mjs'
import { expect, NotRun } from './support.mjs'

const cString = (bytes, at) => bytes.toString('latin1', at, bytes.indexOf(0, at))

/** Sections of a 64-bit little-endian ELF file by name. */
function elfSections(bytes) {
  expect(bytes.readUInt32BE(0) === 0x7f454c46 && bytes[4] === 2 && bytes[5] === 1, 'no ELF file')
  const table = Number(bytes.readBigUInt64LE(40))
  const [size, count, names] = [58, 60, 62].map((at) => bytes.readUInt16LE(at))
  const sections = Array.from({ length: count }, (_, i) => {
    const at = table + i * size
    const [offset, length] = [24, 32].map((field) => Number(bytes.readBigUInt64LE(at + field)))
    return { name: bytes.readUInt32LE(at), type: bytes.readUInt32LE(at + 4), offset, length }
  })
  return new Map(sections.map((s) => [cString(bytes, sections[names].offset + s.name), s]))
}

/** The libraries that an ELF file needs, and the versions of their symbols. */
function elfNeeds(bytes) {
  const sections = elfSections(bytes)
  const strings = sections.get('.dynstr').offset
  const dynamic = sections.get('.dynamic')
  const libraries = []
  for (let at = dynamic.offset; at < dynamic.offset + dynamic.length; at += 16)
    if (bytes.readBigUInt64LE(at) === 1n)
      libraries.push(cString(bytes, strings + Number(bytes.readBigUInt64LE(at + 8))))
  const versions = []
  const needed = sections.get('.gnu.version_r')
  for (let at = needed?.offset ?? 0, more = needed ? 1 : 0; more;) {
    const count = bytes.readUInt16LE(at + 2)
    for (let i = 0, one = at + bytes.readUInt32LE(at + 8); i < count; i++) {
      versions.push(cString(bytes, strings + bytes.readUInt32LE(one + 8)))
      one += bytes.readUInt32LE(one + 12)
    }
    const next = bytes.readUInt32LE(at + 12)
    at += next
    more = next
  }
  return { libraries, versions, stripped: !sections.has('.symtab') && !sections.has('.debug_info') }
}

/** Symbols that other libraries have to bring, and those that this one offers to them. */
function dynamicSymbols(bytes) {
  const sections = elfSections(bytes)
  const strings = sections.get('.dynstr').offset
  const { offset, length } = sections.get('.dynsym')
  const symbols = { missing: [], exported: [] }
  for (let at = offset + 24; at < offset + length; at += 24)
    symbols[bytes.readUInt16LE(at + 6) === 0 ? 'missing' : 'exported'].push({
      name: cString(bytes, strings + bytes.readUInt32LE(at)),
      weak: bytes[at + 4] >> 4 === 2,
    })
  return symbols
}

const names = (symbols) => symbols.map(({ name }) => name).join(', ')

/** Of what the addon calls (Node-API apart): in glibc, and not, or with another meaning, in musl. */
const glibcAlone =
  /^(?!napi_)(__cxa_thread_atexit_impl|malloc_trim|strerror_r|\w+_chk|\w+64|gnu_get_libc_version)$/

function checkElf(bytes) {
  const { missing, exported } = dynamicSymbols(bytes)
  // A linker lets them pass, because Node-API's are missing, too.
  const lacking = missing.filter(({ name }) => /^_ZNK?(2nd|10nd_binding)/.test(name))
  expect(lacking.length === 0, `it lacks ${names(lacking)}`)
  // In place of an exported `operator new`, another library's would be called.
  const foreign = exported.filter(({ name }) => !/^(napi|node_api)_/.test(name))
  expect(foreign.length === 0, `it exports ${names(foreign)}`)
  const { libraries, versions, stripped } = elfNeeds(bytes)
  expect(stripped, 'it has symbols')
  // Names that musl takes for itself.
  const allowed = /^(libc|libm|libdl|libpthread|librt)\.so\.\d$/
  for (const library of libraries) expect(allowed.test(library), `it needs ${library}`)
  const notInMusl = missing.filter(({ name, weak }) => !weak && glibcAlone.test(name))
  expect(notInMusl.length === 0, `musl has no ${names(notInMusl)}`)
  const tooNew = versions.filter((version) => {
    const [, minor] = /^GLIBC_2\.(\d+)/.exec(version) ?? []
    return Number(minor) > 28
  })
  expect(tooNew.length === 0, `it needs ${tooNew.join(', ')}`)
  return [...libraries, ...versions.filter((version) => version.startsWith('GLIBC_2'))].join(', ')
}

/** Load commands of a Mach-O file as [command, offset]. */
function loadCommands(bytes) {
  expect(bytes.readUInt32LE(0) === 0xfeedfacf, 'no 64-bit Mach-O file')
  const commands = []
  for (let i = 0, at = 32; i < bytes.readUInt32LE(16); i++, at += bytes.readUInt32LE(at + 4))
    commands.push([bytes.readUInt32LE(at), at])
  return commands
}

/** An ad-hoc signature: the hash of each page of all that is before it is in the code directory. */
function checkSignature(bytes, at) {
  const [signature, reserved] = [8, 12].map((field) => bytes.readUInt32LE(at + field))
  expect(
    signature % 16 === 0 && signature + reserved === bytes.length,
    'the signature is not the end of the file',
  )
  expect(bytes.readUInt32BE(signature) === 0xfade0cc0, 'the signature has no magic number')
  expect(bytes.readUInt32BE(signature + 4) <= reserved, 'the signature is larger than its place')
  let found = false
  for (let i = 0; i < bytes.readUInt32BE(signature + 8); i++) {
    const directory = signature + bytes.readUInt32BE(signature + 12 + 8 * i + 4)
    if (bytes.readUInt32BE(directory) !== 0xfade0c02) continue
    found = true
    const [flags, hashes, identifier, , pages, limit] = [12, 16, 20, 24, 28, 32].map((field) =>
      bytes.readUInt32BE(directory + field),
    )
    const size = 2 ** bytes[directory + 39]
    expect(bytes[directory + 36] === 32 && bytes[directory + 37] === 2, 'its hashes are not SHA-256')
    expect(limit === signature && pages === Math.ceil(limit / size), 'the signature does not cover the file')
    expect(/^[\w.-]+$/.test(cString(bytes, directory + identifier)), 'the signature has no identifier')
    expect((flags & 2) !== 0, 'the signature is not ad hoc')
    for (let page = 0; page < pages; page++) {
      const content = bytes.subarray(page * size, Math.min((page + 1) * size, limit))
      const expected = bytes.subarray(directory + hashes + page * 32, directory + hashes + page * 32 + 32)
      expect(
        createHash('sha256').update(content).digest().equals(expected),
        `page ${page} does not fit its signature`,
      )
    }
  }
  expect(found, 'the signature has no code directory')
}

/** Symbols of a Mach-O file for which another library's may be taken. */
function weakInMachO(bytes, symbolTable) {
  const [offset, count, strings] = [8, 12, 16].map((field) => bytes.readUInt32LE(symbolTable + field))
  const EXTERNAL = 1
  const SECTION = 0x0e
  const WEAK = 0x80
  const weak = []
  for (let at = offset; at < offset + 16 * count; at += 16)
    if (bytes[at + 4] === (SECTION | EXTERNAL) && bytes.readUInt16LE(at + 6) & WEAK)
      weak.push(cString(bytes, strings + bytes.readUInt32LE(at)))
  return weak
}

/**
 * Names of the symbols behind each section of stubs or of pointers in a Mach-O file, in the order of the sections; undefined
 * for one without a name.
 */
function indirectInMachO(bytes, commands) {
  const at = (wanted) => commands.find(([command]) => command === wanted)[1]
  const number = (where) => bytes.readUInt32LE(where)
  const [symbols, , strings] = [8, 12, 16].map((field) => number(at(2) + field))
  const [table, length] = [56, 60].map((field) => number(at(0xb) + field))
  const NAMELESS = 0x80000000
  const nameOf = (symbol) =>
    symbol >= NAMELESS ? undefined : cString(bytes, strings + number(symbols + 16 * symbol))
  const sections = commands
    .filter(([command]) => command === 0x19)
    .flatMap(([, segment]) => Array.from({ length: number(segment + 64) }, (_, i) => segment + 72 + 80 * i))
  const POINTERS = 6
  const STUBS = 8
  return sections
    .map((section) => ({ section, kind: bytes[section + 64] }))
    .filter(({ kind }) => kind >= POINTERS && kind <= STUBS)
    .map(({ section, kind }) => {
      const [first, stub] = [number(section + 68), number(section + 72)]
      const count = Number(bytes.readBigUInt64LE(section + 40)) / (kind === STUBS ? stub : 8)
      expect(first + count <= length, 'a section has more pointers than there are indirect symbols')
      const names = Array.from({ length: count }, (_, i) => nameOf(number(table + 4 * (first + i))))
      return { kind, names }
    })
}

/** Debuggers and tools that sign anew look symbols up there. */
function checkIndirectSymbols(bytes, commands) {
  const LAZY_POINTERS = 7
  const STUBS = 8
  const sections = indirectInMachO(bytes, commands)
  const [stubs, lazy] = [STUBS, LAZY_POINTERS].map(
    (wanted) => sections.find(({ kind }) => kind === wanted)?.names ?? [],
  )
  expect(stubs.length > 0 && stubs.every(Boolean), 'a stub has no name')
  expect(stubs.join() === lazy.join(), 'stubs and the pointers behind them have different symbols')
}

function checkMachO(bytes, arch) {
  const SYMBOL_TABLE = 2
  const LOAD_DYLIB = 0xc
  const SEGMENT = 0x19
  const UUID = 0x1b
  const CODE_SIGNATURE = 0x1d
  const BUILD_VERSION = 0x32
  const RPATH = 0x8000001c
  const commands = loadCommands(bytes)
  expect(bytes.readUInt32LE(4) === { arm64: 0x100000c, x64: 0x1000007 }[arch], 'it is for another processor')
  expect([6, 8].includes(bytes.readUInt32LE(12)), 'it is neither a library nor a bundle')
  // macOS refuses libraries without one from version 26 on.
  expect(
    commands.some(([command]) => command === UUID),
    'it has no UUID',
  )
  expect(!commands.some(([command]) => command === RPATH), 'it searches for libraries in other folders')
  let end = 0
  for (const [, at] of commands.filter(([command]) => command === SEGMENT)) {
    expect((bytes.readUInt32LE(at + 60) & 6) !== 6, 'a segment can be written and executed')
    end = Math.max(end, Number(bytes.readBigUInt64LE(at + 40) + bytes.readBigUInt64LE(at + 48)))
  }
  expect(end === bytes.length, 'its segments do not cover the file')
  const libraries = commands
    .filter(([command]) => command === LOAD_DYLIB)
    .map(([, at]) => cString(bytes, at + bytes.readUInt32LE(at + 8)))
  for (const library of libraries)
    expect(/^\/usr\/lib\/lib(System\.B|c\+\+\.1)\.dylib$/.test(library), `it needs ${library}`)
  const [, symbols] = commands.find(([command]) => command === SYMBOL_TABLE) ?? []
  // Such as `operator new`.
  const weak = weakInMachO(bytes, symbols)
  expect(weak.length === 0, `another library's ${weak.join(', ')} may be taken`)
  checkIndirectSymbols(bytes, commands)
  const [, version] = commands.find(([command]) => command === BUILD_VERSION) ?? []
  expect(version !== undefined, 'it has no minimum version')
  const minimum = bytes.readUInt32LE(version + 12)
  expect(
    bytes.readUInt32LE(version + 8) === 1 && minimum === 0xb0000,
    `it is for macOS ${minimum >> 16}.${(minimum >> 8) & 255}`,
  )
  const [, signature] = commands.find(([command]) => command === CODE_SIGNATURE) ?? []
  expect(signature !== undefined, 'it is not signed')
  checkSignature(bytes, signature)
  return `${arch}, macOS 11, signed ad hoc, ${libraries.join(', ')}`
}

/** The libraries that a PE file imports. */
function peImports(bytes) {
  const header = bytes.readUInt32LE(0x3c)
  expect(bytes.toString('latin1', header, header + 2) === 'PE', 'no PE file')
  const optional = header + 24
  const sections = Array.from({ length: bytes.readUInt16LE(header + 6) }, (_, i) => {
    const at = optional + bytes.readUInt16LE(header + 20) + 40 * i
    return {
      size: bytes.readUInt32LE(at + 8),
      address: bytes.readUInt32LE(at + 12),
      offset: bytes.readUInt32LE(at + 20),
    }
  })
  const place = (address) => {
    const section = sections.find((s) => address >= s.address && address < s.address + s.size)
    return address - section.address + section.offset
  }
  const names = []
  for (let at = place(bytes.readUInt32LE(optional + 112 + 8)); bytes.readUInt32LE(at + 12) !== 0; at += 20)
    names.push(cString(bytes, place(bytes.readUInt32LE(at + 12))))
  return names
}

function checkPe(bytes) {
  const libraries = peImports(bytes)
  // What every Windows 10 has. node.exe must not be among them: hosts have other names.
  for (const library of libraries)
    expect(
      /^(kernel32|ntdll|advapi32|api-ms-win-crt-[a-z]+-l1-1-0)\.dll$/i.test(library),
      `it needs ${library}`,
    )
  return libraries.filter((name) => !/^api-ms/.test(name)).join(', ')
}

/** prebuilds/SHA256SUMS of the package names every prebuilt file, with its checksum. */
function checkSums(packageFolder, complete) {
  if (!complete) throw new NotRun('only a package with all prebuilds has one')
  const folder = join(packageFolder, 'prebuilds')
  const sums = new Map(
    readFileSync(join(folder, 'SHA256SUMS'), 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => line.split('  ').reverse()),
  )
  const files = readdirSync(folder, { recursive: true }).filter(
    (name) => name !== 'SHA256SUMS' && statSync(join(folder, name)).isFile(),
  )
  expect(files.sort().join() === [...sums.keys()].sort().join(), `it lists ${[...sums.keys()].join(', ')}`)
  for (const [file, sum] of sums)
    expect(
      createHash('sha256')
        .update(readFileSync(join(folder, file)))
        .digest('hex') === sum,
      `${file} has another checksum`,
    )
  return `${sums.size} files`
}

export function binaryChecks({ folder, complete }) {
  const files = Object.entries(platforms).map(([name, { file }]) => ({
    name: `file of ${name}`,
    run() {
      const path = join(root, 'prebuilds', file)
      if (!existsSync(path)) throw new NotRun('it is not built')
      const bytes = readFileSync(path)
      // Paths of the machine that it was built on would make it different elsewhere.
      expect(!bytes.includes(root), 'it contains the path of its sources')
      if (name.startsWith('linux')) return checkElf(bytes)
      return name.startsWith('darwin') ? checkMachO(bytes, name.slice('darwin-'.length)) : checkPe(bytes)
    },
  }))
  return [...files, { name: 'file of checksums', run: () => checkSums(folder, complete) }]
}
