/**
 * Files that are written completely or not at all: under a temporary name in the same folder, until they get their own.
 * What the path already is stays as it is: a link is followed, a file keeps its mode, and a device is written to.
 */
import { randomUUID } from 'node:crypto'
import {
  close,
  closeSync,
  constants,
  fchmod,
  fchown,
  fsync,
  open,
  openSync,
  rmSync,
  write,
  type Stats,
} from 'node:fs'
import { access, link, readlink, realpath, rename, rm, stat, statfs } from 'node:fs/promises'
import { dirname, isAbsolute, join } from 'node:path'
import { promisify } from 'node:util'
import { DiffusionError } from './errors.js'
import { formatBytes } from './memory.js'
import { printable } from './quote.js'
import { writeError } from './write-error.js'

const closeFile = promisify(close)
const changeMode = promisify(fchmod)
const changeOwner = promisify(fchown)
const openFile = promisify(open)
const syncFile = promisify(fsync)
const writeSome = promisify(write)

/** More links in a row count as a cycle, as in Linux. */
const MAX_LINKS = 40

/** Bytes that may wait for the disk. With more, an abort or the end of the process would have to wait long for it. */
const MAX_UNSYNCED = 64 << 20

/** Where a path leads. */
export interface Destination {
  /** The path, with a link at its end resolved. */
  path: string
  /** What is there; undefined: nothing yet. */
  found?: Stats
}

/** Temporary files of this process that are not complete. */
const unfinished = new Set<string>()
let removesAtExit = false

/** process.exit() in the middle of a write leaves no temporary file. */
function keepTrack(temporary: string): void {
  if (!removesAtExit) {
    removesAtExit = true
    process.on('exit', () => unfinished.forEach((file) => rmSync(file, { force: true })))
  }
  unfinished.add(temporary)
}

/**
 * Follows the links of a path that is to be written.
 *
 * @throws {Error} with the `code` of the file system: a folder, a name that is too long, a file without write permission
 */
export async function findDestination(path: string): Promise<Destination> {
  let target = path
  for (let links = 0; links <= MAX_LINKS; links++) {
    const found = await stat(target).catch(ignoreMissing)
    if (found) {
      if (found.isDirectory()) throw failure('EISDIR', 'it is a folder')
      if (!found.isFile()) await access(target, constants.W_OK)
      else await closeFile(await openFile(target, constants.O_WRONLY))
      // A link to something that has no name, such as /dev/fd/1 to a pipe, has no real path either.
      return { path: found.isFile() ? await realpath(target) : target, found }
    }
    const next = await readlink(target).catch(() => undefined)
    if (next === undefined) return { path: target }
    // Not normalized: the folder may be a link itself, so that `..` is not its parent.
    target = isAbsolute(next) ? next : `${dirname(target)}/${next}`
  }
  throw failure('ELOOP', 'too many links')
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error
}

function failure(code: string, message: string): NodeJS.ErrnoException {
  return Object.assign(new Error(message), { code })
}

/** A file that is being written. It ends with commit() or discard(). */
export class OutputFile {
  #closed = false
  #unsynced = 0

  private constructor(
    /** The path as it was given, for messages. */
    private readonly path: string,
    private readonly target: string,
    private readonly fd: number,
    /** undefined: a device, which is written directly. */
    private readonly temporary: string | undefined,
  ) {}

  /**
   * Begins a file.
   *
   * @param bytes its size, if it is known
   * @param replace whether it will replace what is at `path`, as for commit()
   * @throws {DiffusionError} IO: it cannot be written there, or the disk is too small
   */
  static async create(path: string, { bytes = 0, replace = true } = {}): Promise<OutputFile> {
    try {
      const { path: target, found } = replace ? await findDestination(path) : { path }
      if (found && !found.isFile())
        return new OutputFile(path, target, await openDevice(target, found), undefined)
      await requireSpace(path, target, bytes)
      return await OutputFile.#temporary(path, target, found)
    } catch (error) {
      throw writeError(path, error)
    }
  }

  static async #temporary(path: string, target: string, old: Stats | undefined): Promise<OutputFile> {
    // Short, so that every name that the file system allows can be written.
    const temporary = join(dirname(target), `.node-diffusion-${randomUUID()}.tmp`)
    // Synchronously: if the process ends now, the file either exists and is known, or never will exist.
    const fd = openSync(temporary, 'wx', old ? old.mode & 0o777 : 0o666)
    keepTrack(temporary)
    const file = new OutputFile(path, target, fd, temporary)
    if (!old) return file
    try {
      // Only root can give a file away. Without that, it belongs to whoever writes it, as any new file.
      await changeOwner(fd, old.uid, old.gid).catch(() => {})
      await changeMode(fd, old.mode & 0o7777)
    } catch (error) {
      await file.discard()
      throw error
    }
    return file
  }

  async write(bytes: Uint8Array): Promise<void> {
    try {
      for (let done = 0; done < bytes.length;) {
        done += (await writeSome(this.fd, bytes, done, bytes.length - done)).bytesWritten
      }
      this.#unsynced += bytes.length
      if (this.#unsynced > MAX_UNSYNCED) await this.sync()
    } catch (error) {
      throw writeError(this.path, error)
    }
  }

  /** Waits until the data is on the disk: after a power failure, the file must not have its name without them. */
  async sync(): Promise<void> {
    if (this.temporary === undefined) return
    this.#unsynced = 0
    try {
      await syncFile(this.fd)
    } catch (error) {
      throw writeError(this.path, error)
    }
  }

  /**
   * Gives the file its name.
   *
   * @param replace false: only if no other file has this name
   * @returns false if another file has it, and this one was discarded
   */
  async commit(replace = true): Promise<boolean> {
    const { temporary, target } = this
    try {
      await this.#close()
      if (temporary === undefined) return true
      if (replace) await rename(temporary, target)
      else if (!(await claim(temporary, target))) return false
      return true
    } catch (error) {
      throw writeError(this.path, error)
    } finally {
      if (temporary !== undefined) await remove(temporary)
    }
  }

  /** Removes what was written; does nothing after commit(). */
  async discard(): Promise<void> {
    await this.#close().catch(() => {})
    if (this.temporary !== undefined) await remove(this.temporary)
  }

  async #close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await closeFile(this.fd)
  }
}

async function remove(temporary: string): Promise<void> {
  await rm(temporary, { force: true }).catch(() => {})
  unfinished.delete(temporary)
}

/** Gives a file a name that no other file has; returns false if there is one. */
async function claim(temporary: string, target: string): Promise<boolean> {
  try {
    await link(temporary, target)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
  }
  // A file system without hard links: an empty file takes the name first.
  try {
    closeSync(openSync(target, 'wx'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
  keepTrack(target)
  try {
    await rename(temporary, target)
  } catch (error) {
    await remove(target)
    throw error
  } finally {
    unfinished.delete(target)
  }
  return true
}

/** A disk that is too small is reported before minutes of work. */
async function requireSpace(path: string, target: string, bytes: number): Promise<void> {
  if (bytes === 0) return
  const disk = await statfs(dirname(target)).catch(() => undefined)
  // File systems that do not know their size report zero.
  if (!disk || disk.blocks === 0) return
  const free = disk.bavail * disk.bsize
  if (bytes <= free) return
  const sizes = `${formatBytes(bytes)} needed, ${formatBytes(free)} free`
  throw new DiffusionError('IO', `Cannot write ${printable(path)}: no space left on the device (${sizes})`)
}

/** Opens a device such as /dev/null for writing. */
async function openDevice(path: string, found: Stats): Promise<number> {
  if (found.isCharacterDevice()) return openFile(path, constants.O_WRONLY)
  const what = found.isFIFO() ? 'a named pipe' : found.isSocket() ? 'a socket' : 'a block device'
  throw failure('EINVAL', `it is ${what}, not a file`)
}
