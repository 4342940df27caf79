import type * as Library from '@huggingface/hub'
import { abortReason } from '../abort.js'
import { DiffusionError } from '../errors.js'
import { printable, shorten } from '../quote.js'
import { accessToken, endpoint } from './environment.js'

/** A file of a repository. */
export interface HubFile {
  path: string
  bytes: number
  /** SHA-256 of a large file, or git's SHA-1 of a small one. */
  checksum: string
}

/** What is known of a repository before anything is downloaded. */
export interface RepositoryFacts {
  commit: string
  licence: string | undefined
  files: HubFile[]
}

const MAX_FILES = 20_000
const SHOWN = 200

/** Requests to the Hub, by `@huggingface/hub`, which is imported here when it is needed. */
export class HubClient {
  private constructor(
    private readonly library: typeof Library,
    readonly repository: string,
    private readonly signal: AbortSignal | undefined,
  ) {}

  static async create(repository: string, signal: AbortSignal | undefined): Promise<HubClient> {
    try {
      return new HubClient(await import('@huggingface/hub'), repository, signal)
    } catch (error) {
      throw new DiffusionError(
        'IO',
        'Models are downloaded by the package @huggingface/hub, which is not installed: npm install @huggingface/hub',
        { cause: error },
      )
    }
  }

  /** The parameters of every request. */
  get #common() {
    const hubUrl = endpoint()
    const token = accessToken()
    const request: typeof fetch = (input, init) => fetch(input, { ...init, signal: this.signal })
    return { fetch: request, ...(hubUrl && { hubUrl }), ...(token && { accessToken: token }) }
  }

  async facts(revision: string): Promise<RepositoryFacts> {
    return this.#guard(async () => {
      const info = await this.library.modelInfo({
        ...this.#common,
        name: this.repository,
        revision,
        additionalFields: ['sha', 'cardData'],
      })
      const { sha, cardData } = info as {
        sha?: unknown
        cardData?: { license?: unknown; license_name?: unknown }
      }
      if (typeof sha !== 'string' || !/^[0-9a-f]{40}$/.test(sha))
        throw new DiffusionError('IO', `${this.repository}: expected the Hub to name a commit`)
      const licence = [cardData?.license_name, cardData?.license].find(
        (l): l is string => typeof l === 'string',
      )
      return { commit: sha, licence, files: await this.#files(sha) }
    })
  }

  async #files(commit: string): Promise<HubFile[]> {
    const files: HubFile[] = []
    const repo = { type: 'model', name: this.repository } as const
    for await (const entry of this.library.listFiles({
      ...this.#common,
      repo,
      revision: commit,
      recursive: true,
    })) {
      if (entry.type !== 'file') continue
      files.push({
        path: entry.path,
        bytes: entry.lfs?.size ?? entry.size,
        checksum: entry.lfs?.oid ?? entry.oid ?? '',
      })
      if (files.length > MAX_FILES)
        throw new DiffusionError('IO', `${this.repository}: expected at most ${MAX_FILES} files, found more`)
    }
    return files
  }

  /** The bytes of a file from `start` on. */
  async *read(file: HubFile, commit: string, start: number): AsyncGenerator<Uint8Array> {
    const blob = await this.#guard(() =>
      this.library.downloadFile({
        ...this.#common,
        repo: { type: 'model', name: this.repository },
        path: file.path,
        revision: commit,
      }),
    )
    if (!blob)
      throw new DiffusionError(
        'MODEL_NOT_FOUND',
        `${this.repository} has no file ${printable(file.path)} any more`,
      )
    const stream = blob.slice(start, file.bytes).stream() as ReadableStream<Uint8Array>
    const reader = stream.getReader()
    try {
      for (;;) {
        const { done, value } = await this.#guard(() => reader.read())
        if (done) return
        yield value
      }
    } finally {
      await reader.cancel().catch(() => {})
    }
  }

  async #guard<T>(request: () => Promise<T>): Promise<T> {
    try {
      return await request()
    } catch (error) {
      if (this.signal?.aborted) throw abortReason(this.signal)
      throw this.#describe(error)
    }
  }

  #describe(error: unknown): DiffusionError {
    if (error instanceof DiffusionError) return error
    const cause = { cause: error }
    const status = error instanceof this.library.HubApiError ? error.statusCode : undefined
    const page = `${endpoint() ?? 'https://huggingface.co'}/${this.repository}`
    const reason = printable(shorten(error instanceof Error ? networkReason(error) : String(error), SHOWN))
    if (status === 401 || status === 403 || status === 404) {
      const login = accessToken()
        ? 'the token in HF_TOKEN does not give access to it'
        : 'it may ask for an account: accept its licence there and set HF_TOKEN'
      return new DiffusionError(
        'MODEL_NOT_FOUND',
        `${this.repository}: the Hub has no such model or revision, or does not give it to you (${page}; status ${status}); ${login}`,
        cause,
      )
    }
    if (status !== undefined)
      return new DiffusionError(
        'IO',
        `${this.repository}: the Hub answered with status ${status}: ${reason}`,
        cause,
      )
    return new HubUnreachable(`${this.repository}: cannot be downloaded from ${page}: ${reason}`, cause)
  }
}

/** The network failed, and not the Hub: another try may help, or what has been downloaded before. */
export class HubUnreachable extends DiffusionError {
  constructor(message: string, options: { cause: unknown }) {
    super('IO', message, options)
  }
}

/** fetch() says only 'fetch failed'; the reason is its cause. */
function networkReason(error: Error): string {
  const { cause } = error
  return cause instanceof Error && cause.message ? `${error.message}: ${cause.message}` : error.message
}
