import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { badFormat } from './formats/fail.js'
import { isFolder } from './tokenizer-files.js'

/**
 * The cache that Hugging Face's programs share has a folder `models--owner--name` for each repository: `blobs` holds
 * the files by their checksums, `snapshots/<commit>` has links to them under their names, and `refs/<branch>` says
 * which commit a branch was.
 */

const COMMIT = /^[0-9a-f]{40}$/

/** The folder of a commit, branch or tag; undefined if it is not in the cache. */
export async function snapshotFolder(repository: string, revision: string): Promise<string | undefined> {
  let commit = revision
  if (!COMMIT.test(commit)) {
    try {
      commit = (await readFile(join(repository, 'refs', ...revision.split('/')), 'utf8')).trim()
    } catch {
      return undefined
    }
  }
  const folder = join(repository, 'snapshots', commit)
  return COMMIT.test(commit) && (await isFolder(folder)) ? folder : undefined
}

/** The folder of a model's files, if `folder` is that of a whole repository in the cache, and otherwise `folder`. */
export async function insideCache(folder: string): Promise<string> {
  const snapshots = join(folder, 'snapshots')
  if (!(await isFolder(snapshots)) || !(await isFolder(join(folder, 'blobs')))) return folder
  const main = await snapshotFolder(folder, 'main')
  if (main !== undefined) return main
  const names = await readdir(snapshots)
  if (names.length === 1) return join(snapshots, names[0])
  throw badFormat(
    folder,
    `expected one folder in snapshots or the file refs/main, found ${names.length} folders`,
  )
}
