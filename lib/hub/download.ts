import { createHash, type Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { copyFile, mkdir, open, rename, rm, stat, statfs, symlink } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { raceAbort, throwIfAborted } from '../abort.js'
import { DiffusionError } from '../errors.js'
import { formatBytes } from '../memory.js'
import { printable } from '../quote.js'
import { HubUnreachable, type HubClient, type HubFile } from './client.js'

/** Milliseconds before the next tries after the network has failed. What has arrived is kept. */
const RETRIES = [500, 2000, 5000]

/** Downloads of this process by the file that they write, so that two calls do not write the same one. */
const running = new Map<string, Promise<void>>()

/** Where the files of a commit go. */
export interface Destination {
  /** The repository's folder in the cache. */
  folder: string
  commit: string
}

const blobOf = ({ folder }: Destination, file: HubFile) => join(folder, 'blobs', file.checksum)
const linkOf = ({ folder, commit }: Destination, { path }: HubFile) =>
  join(folder, 'snapshots', commit, ...path.split('/'))

/** Bytes of a file that have been downloaded. */
export async function bytesPresent(to: Destination, file: HubFile): Promise<number> {
  for (const path of [linkOf(to, file), blobOf(to, file), `${blobOf(to, file)}.incomplete`]) {
    const size = await sizeOf(path)
    if (size !== undefined) return Math.min(size, file.bytes)
  }
  return 0
}

/** Throws IO if the disk has no room for so many bytes. */
export async function requireSpace(folder: string, bytes: number): Promise<void> {
  await mkdir(folder, { recursive: true })
  const { bavail, bsize } = await statfs(folder)
  if (bytes <= bavail * bsize) return
  throw new DiffusionError(
    'IO',
    `${folder}: ${formatBytes(bytes)} are to be downloaded, but only ${formatBytes(bavail * bsize)} are free there`,
  )
}

/**
 * Downloads a file into the cache unless it is there. A download that was interrupted goes on where it ended.
 *
 * @param onBytes called with the number of bytes that are there
 * @throws {DiffusionError} IO: the network, the disk, or another checksum than the Hub says
 */
export async function download(
  client: HubClient,
  to: Destination,
  file: HubFile,
  signal: AbortSignal | undefined,
  onBytes: (bytes: number) => void,
): Promise<void> {
  if (!/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(file.checksum))
    throw new DiffusionError(
      'IO',
      `${client.repository}: the Hub gives no checksum of ${printable(file.path)}`,
    )
  const [link, blob] = [linkOf(to, file), blobOf(to, file)]
  if ((await sizeOf(link)) === file.bytes) return onBytes(file.bytes)
  await mkdir(dirname(blob), { recursive: true })
  for (let other = running.get(blob); other; other = running.get(blob))
    await raceAbort(
      signal,
      other.catch(() => {}),
    )
  const arriving = fetchBlob(client, to.commit, file, blob, signal, onBytes)
  running.set(blob, arriving)
  await arriving.finally(() => running.delete(blob))
  onBytes(file.bytes)
  await mkdir(dirname(link), { recursive: true })
  if ((await sizeOf(link)) === file.bytes) return
  await rm(link, { force: true })
  try {
    await symlink(relative(dirname(link), blob), link)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return
    // Windows lets only some users make links.
    await copyFile(blob, link)
  }
}

/** Downloads under another name until the checksum is known to be right. */
async function fetchBlob(
  client: HubClient,
  commit: string,
  file: HubFile,
  blob: string,
  signal: AbortSignal | undefined,
  onBytes: (bytes: number) => void,
): Promise<void> {
  if ((await sizeOf(blob)) === file.bytes) return
  for (let tries = 0; ; tries++) {
    try {
      await complete(client, commit, file, `${blob}.incomplete`, signal, onBytes)
      break
    } catch (error) {
      if (!(error instanceof HubUnreachable) || tries === RETRIES.length) throw error
      await setTimeout(RETRIES[tries], undefined, { signal }).catch(() => throwIfAborted(signal))
    }
  }
  await rename(`${blob}.incomplete`, blob)
}

/** Appends what is missing, and checks the whole. */
async function complete(
  client: HubClient,
  commit: string,
  file: HubFile,
  path: string,
  signal: AbortSignal | undefined,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const hash = checksumOf(file)
  let done = (await sizeOf(path)) ?? 0
  if (done > file.bytes) {
    await rm(path)
    done = 0
  }
  if (done > 0) for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer)
  const handle = await open(path, 'a')
  try {
    onBytes(done)
    if (done < file.bytes) {
      for await (const chunk of client.read(file, commit, done)) {
        throwIfAborted(signal)
        await handle.appendFile(chunk)
        hash.update(chunk)
        done += chunk.length
        onBytes(done)
      }
    }
    await handle.sync()
  } finally {
    await handle.close()
  }
  if (done < file.bytes)
    throw new HubUnreachable(
      `${client.repository}: the download of ${printable(file.path)} ended after ${done} of ${file.bytes} bytes`,
      { cause: undefined },
    )
  if (done === file.bytes && hash.digest('hex') === file.checksum) return
  await rm(path, { force: true })
  throw new DiffusionError(
    'IO',
    `${client.repository}: ${printable(file.path)} was damaged on its way: its checksum is another one. Try again`,
  )
}

function checksumOf({ checksum, bytes }: HubFile): Hash {
  return checksum.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${bytes}\0`)
}

async function sizeOf(path: string): Promise<number | undefined> {
  // prettier-ignore
  return stat(path).then((s) => (s.isFile() ? s.size : undefined), () => undefined)
}
