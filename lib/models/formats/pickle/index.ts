import type { FileHandle } from 'node:fs/promises'
import { quote } from '../../../quote.js'
import { badFormat, unsupported } from '../fail.js'
import { readExactly, withFile, type StoredTensor, type TensorFile } from '../tensor-file.js'
import { applyScales } from '../scales.js'
import { TimeSlices } from '../time-slices.js'
import { ZipArchive, type ZipEntry } from '../zip.js'
import { isIndex, showValue } from './globals.js'
import { PickleInput } from './input.js'
import { PickleMachine } from './machine.js'
import { findStateDict } from './state-dict.js'
import { storedTensor, type Place } from './tensor-layout.js'
import { Global, type CallContext, type Storage, type Value } from './values.js'

/**
 * Reads what torch.save() writes (.ckpt, .pt, .pth, .bin): a zip archive with the pickle `data.pkl` and one entry for
 * each storage, or, before torch 1.6, several pickles in a row and then the storages. The pickles are interpreted
 * without Python and can create tensors and plain containers only; see machine.ts. Tensors are read at their offsets
 * in the file.
 */

/** Decompressed pickles are held in memory. torch does not compress them. */
const MAX_INFLATED = 64 << 20
const MAX_STORAGES = 100_000

/** The number that the older format begins with. */
const MAGIC = 0x1950a86a20f9469cfc6cn
const PROTOCOL = 1001

/** Whether a file begins as torch.save() or pickle.dump() begins it. */
export function isPickle(head: Buffer): boolean {
  return (
    (head.length >= 4 && head.readUInt32LE() === 0x04034b50) ||
    (head[0] === 0x80 && head[1] >= 2 && head[1] <= 5)
  )
}

export function readPickle(path: string, fileIndex = 0): Promise<TensorFile> {
  return withFile(path, async (file, size, identity) => {
    if (size < 4) throw badFormat(path, `truncated: expected a PyTorch file, found ${size} bytes`)
    const zip = (await readExactly(path, file, 0, 4)).readUInt32LE() === 0x04034b50
    const { root, place } = zip ? await readZip(path, file, size) : await readLegacy(path, file, size)
    const { named, metadata } = await findStateDict(path, root)
    const slices = new TimeSlices()
    const tensors = new Map<string, StoredTensor>()
    for (const [name, tensor] of named) {
      await slices.pause()
      tensors.set(name, storedTensor(name, tensor, await place(tensor.storage), fileIndex))
    }
    await applyScales(path, file, tensors)
    return { path, identity, format: 'pickle', tensors, metadata }
  })
}

interface Contents {
  root: Value
  /** Where the bytes of a storage are. */
  place: (storage: Storage) => Promise<Place>
}

/** Collects the storages that persistent ids name: ('storage', class, key, device, elements[, view]). */
export class Storages {
  readonly all = new Map<string, Storage>()

  load = ([kind, type, key, , elements, view]: Value[], context: CallContext): Storage => {
    if (kind !== 'storage' || !(type instanceof Global) || !type.element || typeof key !== 'string')
      throw context.fail(`expected the id of a storage, found ${showValue([kind, type, key])}`)
    if (!isIndex(elements) || !Number.isSafeInteger(elements * type.element.bytes))
      throw context.fail(`expected the number of elements of a storage, found ${showValue(elements)}`)
    const root = { key, type: type.element, elements, first: 0 }
    const known = this.all.get(key) ?? root
    if (known.elements !== elements || known.type !== type.element)
      throw context.fail(`storage ${quote(key)} is described twice, with different types or lengths`)
    if (this.all.size >= MAX_STORAGES)
      throw context.fail(`expected at most ${MAX_STORAGES} storages, found more`)
    this.all.set(key, known)
    if (view === undefined || view === null) return known
    // (key of the view, its first element, its number of elements)
    const [, first, length] = Array.isArray(view) ? view : []
    if (!isIndex(first) || !isIndex(length) || first + length > elements)
      throw context.fail(
        `expected a view within the ${elements} elements of its storage, found ${showValue(view)}`,
      )
    return { ...known, elements: first + length, first }
  }
}

async function readZip(path: string, file: FileHandle, size: number): Promise<Contents> {
  const zip = await ZipArchive.open(path, file, size)
  const { prefix, pickle } = findPickle(path, zip)
  const order = zip.entries.get(`${prefix}byteorder`)
  if (order?.stored && order.bytes === 3)
    if ((await readExactly(path, file, await zip.locate(order), 3)).toString('latin1') === 'big')
      throw bigEndian(path)

  const storages = new Storages()
  const start = pickle.stored ? await zip.locate(pickle) : 0
  const content = pickle.stored ? undefined : await zip.inflate(pickle, MAX_INFLATED)
  const input = new PickleInput(
    path,
    async (position, length) =>
      content?.subarray(position, position + length) ?? (await readExactly(path, file, position, length)),
    start,
    start + pickle.bytes,
  )
  const root = await new PickleMachine(input, storages.load).run()

  const places = new Map<string, Place>()
  const place = async (storage: Storage): Promise<Place> => {
    let found = places.get(storage.key)
    if (!found)
      places.set(storage.key, (found = await placeInZip(zip, prefix, storages.all.get(storage.key)!)))
    return found
  }
  return { root, place }
}

async function placeInZip(zip: ZipArchive, prefix: string, storage: Storage): Promise<Place> {
  const name = `${prefix}data/${storage.key}`
  const entry = zip.entries.get(name)
  if (!entry) throw badFormat(zip.path, `expected the zip entry ${quote(name)} for a storage, found none`)
  const bytes = storage.elements * storage.type.bytes
  if (entry.bytes < bytes)
    throw badFormat(
      zip.path,
      `zip entry ${quote(name)}: expected ${bytes} bytes of a storage, found ${entry.bytes}`,
    )
  if (!entry.stored)
    return { offset: 0, problem: 'is compressed in its zip archive: save it again with torch.save()' }
  return { offset: await zip.locate(entry) }
}

function findPickle(path: string, zip: ZipArchive): { prefix: string; pickle: ZipEntry } {
  const found = [...zip.entries.values()].filter(({ name }) => /^([^/]+\/)?data\.pkl$/.test(name))
  const [pickle] = found
  if (!pickle) {
    const names = [...zip.entries.keys()].slice(0, 3).map((name) => quote(name, 60))
    throw unsupported(
      path,
      `this is a zip archive, but not one of torch.save(): it holds ${names.join(', ') || 'nothing'}. Unpack it`,
    )
  }
  if (found.length > 1) throw badFormat(path, 'expected one data.pkl in the zip archive, found several')
  const prefix = pickle.name.slice(0, -'data.pkl'.length)
  if (zip.entries.has(`${prefix}constants.pkl`))
    throw unsupported(
      path,
      'this is a TorchScript program, which is code: use the weights as a .safetensors file',
    )
  return { prefix, pickle }
}

/** Pickles of a magic number, a protocol, a description of the system, the object and the keys of its storages. */
async function readLegacy(path: string, file: FileHandle, size: number): Promise<Contents> {
  const storages = new Storages()
  const read = (position: number, length: number) => readExactly(path, file, position, length)
  const input = new PickleInput(path, read, 0, size)
  const machine = new PickleMachine(input, storages.load)
  if ((await machine.run()) !== MAGIC)
    throw unsupported(path, 'this is a Python pickle, but not one that torch.save() has written')
  const protocol = await machine.run()
  if (protocol !== PROTOCOL)
    throw unsupported(path, `expected version ${PROTOCOL} of PyTorch's format, found ${showValue(protocol)}`)
  const system = await machine.run()
  if (system instanceof Map && system.get('little_endian') === false) throw bigEndian(path)
  const root = await machine.run()
  const keys = await machine.run()
  if (!Array.isArray(keys)) throw badFormat(path, `expected the list of storages, found ${showValue(keys)}`)

  const places = new Map<string, Place>()
  let position = input.position
  for (const key of keys) {
    const storage = typeof key === 'string' ? storages.all.get(key) : undefined
    if (!storage) throw badFormat(path, `storage ${showValue(key)} belongs to no tensor`)
    const where = `storage ${quote(storage.key)} at byte ${position}`
    if (position + 8 > size) throw badFormat(path, `truncated: ${where} is after the end of the file`)
    const elements = Number((await read(position, 8)).readBigUInt64LE())
    if (elements !== storage.elements)
      throw badFormat(path, `${where}: expected ${storage.elements} elements, found ${elements}`)
    const bytes = elements * storage.type.bytes
    if (bytes > size - position - 8)
      throw badFormat(path, `truncated: ${where}: expected ${bytes} bytes, found ${size - position - 8}`)
    places.set(storage.key, { offset: position + 8 })
    position += 8 + bytes
  }
  const place = (storage: Storage): Promise<Place> => {
    const found = places.get(storage.key)
    if (found) return Promise.resolve(found)
    throw badFormat(path, `expected storage ${quote(storage.key)} in the list of storages, found none`)
  }
  return { root, place: async (storage) => place(storage) }
}

function bigEndian(path: string): Error {
  return unsupported(path, 'this PyTorch file is big-endian; save it again on a little-endian machine')
}
