import { closeSync, openSync } from 'node:fs'
import { devNull } from 'node:os'
import { DiffusionError } from './errors.js'

/** More files than are opened at a time while a package is imported. */
const DESCRIPTORS = 16

/**
 * Fails while file descriptors are scarce. Node remembers that a package could not be found or imported for as long as
 * the process lives, even if its files could only not be opened. So it must not be tried then.
 *
 * @throws {DiffusionError} IO: too many files are open
 */
export function requireDescriptors(): void {
  const opened: number[] = []
  try {
    while (opened.length < DESCRIPTORS) opened.push(openSync(devNull, 'r'))
  } catch (cause) {
    throw new DiffusionError('IO', `Cannot open files: ${(cause as Error).message}`, { cause })
  } finally {
    opened.forEach(closeSync)
  }
}

/**
 * A function that imports a package when it is first called, and again after a failure.
 *
 * @param load `() => import('name')`, as it stands in the source, so that bundlers see it
 * @returns a function that throws a DiffusionError of code IO if the package cannot be imported now
 */
export function importOnce<Module>(name: string, load: () => Promise<unknown>): () => Promise<Module> {
  let loaded: Module | undefined
  return async () => {
    if (loaded) return loaded
    requireDescriptors()
    try {
      return (loaded = (await load()) as Module)
    } catch (cause) {
      throw new DiffusionError('IO', `Cannot import the package ${name}: ${(cause as Error).message}`, {
        cause,
      })
    }
  }
}
