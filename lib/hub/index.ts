import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { throwIfAborted } from '../abort.js'
import { checkFunction, checkObject, checkSignal, checkString } from '../check.js'
import { DiffusionError } from '../errors.js'
import { snapshotFolder } from '../models/index.js'
import { quote } from '../quote.js'
import { HubClient, HubUnreachable, type HubFile } from './client.js'
import { bytesPresent, download, requireSpace, type Destination } from './download.js'
import { cacheFolder, isOffline } from './environment.js'
import { isHubReference, parseReference, type HubReference } from './reference.js'
import { Selection } from './selection.js'

export { isHubReference } from './reference.js'
export { WELL_KNOWN as wellKnownModels, type WellKnownModel } from './well-known.js'

/** Progress of pullModel(). */
export interface PullProgress {
  /** 'owner/name' */
  repository: string
  /** The licence that the repository names: 'mit', 'openrail++', … */
  licence: string | undefined
  /** The file that is downloaded; empty before the first and at the end. */
  file: string
  /** Bytes that are on this machine. */
  done: number
  /** Bytes of all files of the model. */
  total: number
}

export interface PullOptions {
  /** The variant of the weights to prefer, as in `unet/diffusion_pytorch_model.fp16.safetensors`. Default: 'fp16'. */
  variant?: string
  /** Aborts within 100 ms. What has arrived is kept, and the next call goes on there. */
  signal?: AbortSignal
  /** Called before anything is downloaded, while it is, and at the end. */
  onProgress?(progress: PullProgress): void
}

/**
 * Downloads a model from the Hugging Face Hub, unless it is in the cache, and returns its path there. The cache is the
 * one that Hugging Face's own programs use. HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE are
 * honoured. Of a pipeline's repository, only the files that load() reads are downloaded. Checksums are verified. Without
 * network, what is in the cache is used.
 *
 * @param reference `hf:owner/name[@revision][:file]`, or `hf:` and a short name such as `sd15`
 * @throws {TypeError} an option of the wrong type, or one that does not exist
 * @throws {DiffusionError} MODEL_NOT_FOUND: no such model, or one that asks for an account; IO: the network, the disk, a
 *   damaged download, or @huggingface/hub is not installed
 * @throws the signal's reason after an abort
 */
export async function pullModel(reference: string, options: PullOptions = {}): Promise<string> {
  checkString(reference, 'reference')
  const given = checkObject(options, 'options', ['variant', 'signal', 'onProgress'])
  const variant = given.variant === undefined ? undefined : checkString(given.variant, 'variant')
  const signal = checkSignal(given.signal)
  const onProgress =
    given.onProgress === undefined
      ? undefined
      : checkFunction<NonNullable<PullOptions['onProgress']>>(given.onProgress, 'onProgress')
  throwIfAborted(signal)
  const wanted = parseReference(isHubReference(reference) ? reference : `hf:${reference}`)
  if (isOffline()) return cached(wanted, 'HF_HUB_OFFLINE forbids to download it')
  try {
    return await pull(wanted, variant, signal, onProgress)
  } catch (error) {
    if (!(error instanceof HubUnreachable)) throw error
    return cached(wanted, error.message).catch(() => {
      throw error
    })
  }
}

/** The path of a model: downloaded, if it is one on the Hub. */
export async function localPath(path: string, signal?: AbortSignal, variant?: string): Promise<string> {
  return isHubReference(path) ? pullModel(path, { signal, variant }) : path
}

const folderOf = (repository: string) => join(cacheFolder(), `models--${repository.replace('/', '--')}`)

/** What an earlier download has left. */
async function cached({ repository, revision, file }: HubReference, reason: string): Promise<string> {
  const folder = await snapshotFolder(folderOf(repository), revision)
  const path = folder && (file === undefined ? folder : join(folder, ...file.split('/')))
  // prettier-ignore
  if (path && (await stat(path).then(() => true, () => false))) return path
  const what = file === undefined ? '' : ` with ${quote(file, 60)}`
  throw new DiffusionError(
    'MODEL_NOT_FOUND',
    `${repository}@${revision}${what} is not in the cache ${cacheFolder()}, and ${reason}`,
  )
}

async function pull(
  { repository, revision, file }: HubReference,
  variant: string | undefined,
  signal: AbortSignal | undefined,
  onProgress: PullOptions['onProgress'],
): Promise<string> {
  const client = await HubClient.create(repository, signal)
  const { commit, licence, files } = await client.facts(revision)
  const to: Destination = { folder: folderOf(repository), commit }
  const selection = new Selection(repository, files, variant)
  const parts =
    file === undefined && selection.index ? await readParts(client, to, selection.index, signal) : undefined
  const chosen = file === undefined ? selection.all(parts) : selection.named(file)

  const total = chosen.reduce((sum, { bytes }) => sum + bytes, 0)
  const present = new Map<HubFile, number>()
  for (const one of chosen) present.set(one, await bytesPresent(to, one))
  const report = (name: string) => {
    const done = [...present.values()].reduce((sum, bytes) => sum + bytes, 0)
    onProgress?.({ repository, licence, file: name, done, total })
  }
  report('')
  await requireSpace(to.folder, total - [...present.values()].reduce((sum, bytes) => sum + bytes, 0))
  for (const one of chosen) {
    await download(client, to, one, signal, (bytes) => {
      present.set(one, bytes)
      report(one.path)
    })
  }
  await writeReference(to, revision)
  report('')
  const snapshot = join(to.folder, 'snapshots', commit)
  return file === undefined ? snapshot : join(snapshot, ...file.split('/'))
}

/** The parts of a pipeline that its model_index.json names. */
async function readParts(
  client: HubClient,
  to: Destination,
  index: HubFile,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  if (index.bytes > 1 << 20)
    throw new DiffusionError(
      'MODEL_FORMAT',
      `${client.repository}: expected a model_index.json of at most 1 MiB`,
    )
  await download(client, to, index, signal, () => {})
  const path = join(to.folder, 'snapshots', to.commit, index.path)
  let value: unknown
  try {
    value = JSON.parse(await readFile(path, 'utf8'))
  } catch (error) {
    throw new DiffusionError('MODEL_FORMAT', `${path}: is not valid JSON`, { cause: error })
  }
  return Object.entries(value as object).flatMap(([part, what]) =>
    Array.isArray(what) && what.some((name) => typeof name === 'string') ? [part] : [],
  )
}

/** Notes which commit a branch or tag is, for when there is no network. */
async function writeReference({ folder, commit }: Destination, revision: string): Promise<void> {
  if (revision === commit) return
  const path = join(folder, 'refs', ...revision.split('/'))
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, commit)
}

/** A model in the cache. */
export interface CachedModel {
  /** 'owner/name' */
  repository: string
  commit: string
  /** The branches and tags that it is. */
  revisions: string[]
  /** Bytes of its files. */
  bytes: number
  path: string
}

/** The models in the cache of Hugging Face's programs, whichever program has downloaded them. */
export async function cachedModels(): Promise<CachedModel[]> {
  const root = cacheFolder()
  const found: CachedModel[] = []
  for (const name of await list(root)) {
    const match = /^models--([^-].*?)--(.+)$/.exec(name)
    if (!match) continue
    const folder = join(root, name)
    const refs = await referencesOf(join(folder, 'refs'))
    for (const commit of await list(join(folder, 'snapshots'))) {
      const path = join(folder, 'snapshots', commit)
      const bytes = await bytesIn(path)
      if (bytes === 0) continue
      const revisions = refs.filter((ref) => ref.commit === commit).map((ref) => ref.name)
      found.push({ repository: `${match[1]}/${match[2]}`, commit, revisions, bytes, path })
    }
  }
  return found
}

async function list(folder: string): Promise<string[]> {
  return readdir(folder).then(
    (names) => names.sort(),
    () => [],
  )
}

async function referencesOf(folder: string): Promise<{ name: string; commit: string }[]> {
  // prettier-ignore
  const names = await readdir(folder, { recursive: true }).catch((): string[] => [])
  const found = await Promise.all(
    names.map(async (name) => ({
      name: name.replaceAll('\\', '/'),
      commit: await readFile(join(folder, name), 'utf8').then(
        (text) => text.trim(),
        () => '',
      ),
    })),
  )
  return found.filter(({ commit }) => commit !== '')
}

async function bytesIn(folder: string): Promise<number> {
  let bytes = 0
  for (const name of await readdir(folder, { recursive: true }).catch((): string[] => [])) {
    // prettier-ignore
    bytes += await stat(join(folder, name)).then((s) => (s.isFile() ? s.size : 0), () => 0)
  }
  return bytes
}
