import { constants, open } from 'node:fs'
import { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { raceAbort, throwIfAborted } from '../abort.js'
import { findDestination, OutputFile } from '../output-file.js'
import { writeError } from '../write-error.js'

/** How often to look for a reader of a named pipe, in milliseconds. */
const PIPE_INTERVAL = 50

/**
 * Writes a file completely or not at all. A link is followed, an existing file keeps its mode, and what is written to a
 * device or a named pipe goes there.
 *
 * @throws {DiffusionError} IO: the file cannot be written; no partial file is left behind
 */
export async function writeWholeFile(path: string, data: Uint8Array, signal?: AbortSignal): Promise<void> {
  if (await isPipe(path)) return writePipe(path, data, signal)
  await writeFile(path, data, true, signal)
}

/**
 * Writes a file that must not exist yet.
 *
 * @returns false if there is a file of this name, which is left as it is
 * @throws {DiffusionError} IO: the file cannot be written
 */
export function writeNewFile(path: string, data: Uint8Array, signal?: AbortSignal): Promise<boolean> {
  return writeFile(path, data, false, signal)
}

async function writeFile(
  path: string,
  data: Uint8Array,
  replace: boolean,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const file = await OutputFile.create(path, { replace })
  try {
    await file.write(data)
    throwIfAborted(signal)
    return await file.commit(replace)
  } catch (error) {
    await file.discard()
    throwIfAborted(signal)
    throw error
  }
}

async function isPipe(path: string): Promise<boolean> {
  try {
    return (await findDestination(path)).found?.isFIFO() === true
  } catch (error) {
    throw writeError(path, error)
  }
}

/** Waits for a reader. Opening a pipe without one would block a thread of libuv, and with it the end of the process. */
async function writePipe(path: string, data: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
  try {
    const socket = new Socket({ fd: await openPipe(path, signal), readable: false, writable: true })
    try {
      await raceAbort(signal, end(socket, data))
    } finally {
      socket.destroy()
    }
  } catch (error) {
    throwIfAborted(signal)
    throw writeError(path, error)
  }
}

/** The descriptor of a named pipe that has a reader. */
async function openPipe(path: string, signal: AbortSignal | undefined): Promise<number> {
  for (;;) {
    throwIfAborted(signal)
    try {
      return await promisify(open)(path, constants.O_WRONLY | constants.O_NONBLOCK)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENXIO') throw error
    }
    await raceAbort(signal, sleep(PIPE_INTERVAL))
  }
}

function end(socket: Socket, data: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once('error', reject)
    socket.end(data, () => resolve())
  })
}
