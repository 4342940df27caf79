/** `node-diffusion pull` and `ls`, and models on the Hugging Face Hub wherever a command takes a model. */
import { existsSync } from 'node:fs'
import type { PullProgress } from '../hub/index.js'
import { formatBytes } from '../memory.js'
import { printable } from '../quote.js'
import type { Engine } from './engine.js'
import type { PullFlags } from './flags.js'
import { createProgress, silent, type Progress } from './progress.js'
import { jsonLine, print, tell, type Terminal } from './terminal.js'

/**
 * Where a model is on this machine: one on the Hub is downloaded. A short name counts as one on the Hub unless there is
 * a file of that name.
 */
export async function fetchModel<Path extends string | undefined>(
  path: Path,
  flags: { variant?: string; quiet?: boolean; json?: boolean },
  terminal: Terminal,
  engine: Engine,
  progress?: Progress,
): Promise<Path | string> {
  if (path === undefined) return path
  if (!(await isElsewhere(path, engine))) return path
  const quiet = flags.quiet === true || flags.json === true
  const shown = progress ?? (quiet ? silent : await createProgress(terminal.stderr))
  try {
    return await download(path, { variant: flags.variant }, quiet, terminal, engine, shown)
  } finally {
    if (!progress) shown.stop()
  }
}

/** Whether a path names a model on the Hub, as of pullModel(). */
export function isOnHub(path: string): boolean {
  return path.startsWith('hf:') || path.startsWith('https://huggingface.co/')
}

/** Whether a path names a model on the Hub, also by its short name. */
export async function isElsewhere(path: string, engine: Engine): Promise<boolean> {
  return isOnHub(path) || isShortName(path, engine)
}

async function isShortName(path: string, engine: Engine): Promise<boolean> {
  if (/[/\\]/.test(path) || existsSync(path)) return false
  return (await engine.wellKnownModels()).some(({ name }) => name === path)
}

async function download(
  reference: string,
  { variant }: PullFlags,
  quiet: boolean,
  terminal: Terminal,
  engine: Engine,
  progress: Progress,
): Promise<string> {
  let percent = -1
  const onProgress = (at: PullProgress) => {
    if (at.done === at.total) return
    if (percent < 0 && !quiet) tell(terminal, describe(at))
    const now = Math.floor((100 * at.done) / at.total)
    if (now > percent) progress.step((percent = now), 100, `Downloading ${printable(at.file)}`)
  }
  return engine.pull(reference, {
    ...(variant !== undefined && { variant }),
    signal: terminal.signal,
    onProgress,
  })
}

/** What the user is about to get: before the first byte is downloaded. */
function describe({ repository, licence, done, total }: PullProgress): string {
  const [all, missing] = [formatBytes(total), formatBytes(total - done)]
  const rest = missing === all ? all : `${missing} of ${all}`
  return `${repository}: licence ${licence ?? 'unknown'}, ${rest} to download\n`
}

export async function pull(
  reference: string,
  flags: PullFlags,
  terminal: Terminal,
  engine: Engine,
): Promise<void> {
  const quiet = flags.quiet === true || flags.json === true
  const progress = quiet ? silent : await createProgress(terminal.stderr)
  let path: string
  try {
    path = await download(reference, flags, quiet, terminal, engine, progress)
  } finally {
    progress.stop()
  }
  await print(terminal, flags.json ? jsonLine({ path }) : `${path}\n`)
}

export async function list(flags: { json?: boolean }, terminal: Terminal, engine: Engine): Promise<void> {
  const [cached, known] = [await engine.cachedModels(), await engine.wellKnownModels()]
  if (flags.json) return print(terminal, jsonLine({ cached, known }))
  const lines = cached.map(({ repository, commit, revisions, bytes }) => {
    const revision = revisions.includes('main') ? '' : `@${revisions[0] ?? commit}`
    return [`hf:${repository}${revision}`, formatBytes(bytes)]
  })
  const names = known.map(({ name, repository, about }) => [name, `${about} (${repository})`])
  const downloaded = lines.length > 0 ? table(lines) : 'none\n'
  await print(terminal, `Downloaded:\n${downloaded}\nWell-known:\n${table(names)}`)
}

function table(rows: string[][]): string {
  const width = Math.max(...rows.map(([first]) => first.length))
  return rows.map(([first, second]) => `  ${first.padEnd(width)}  ${second}\n`).join('')
}
