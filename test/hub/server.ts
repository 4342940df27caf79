/** A server that speaks those of the Hub's routes that downloads need. */
import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'

export interface Repository {
  files: Record<string, Buffer>
  licence?: string
  /** Branches and tags besides main, and their files. */
  revisions?: Record<string, Record<string, Buffer>>
  /** The token that it asks for. */
  token?: string
}

export interface Hub {
  url: string
  /** HF_HOME of the test. */
  home: string
  /** `METHOD path range` of each request. */
  requests: string[]
  /** Bytes of files that have been sent. */
  sent: number
  /** Ends the answer after so many bytes of a file, once. */
  cutAfter: number | undefined
  /** Sends other bytes. */
  damage: boolean
  /** Answers a range with the whole file. */
  ignoreRange: boolean
  /** Milliseconds between pieces of 64 KiB. */
  delay: number
  repositories: Record<string, Repository>
  close(): Promise<void>
}

/** Files from this size on count as large, with a SHA-256. */
const LARGE = 4096

const hex = (algorithm: string, ...parts: (string | Buffer)[]) =>
  parts.reduce((hash, part) => hash.update(part), createHash(algorithm)).digest('hex')

export const commitOf = (name: string, revision: string) => hex('sha1', name, revision)

/** Starts a server, and makes it and an empty cache those of this process. */
export async function startHub(t: Test, repositories: Record<string, Repository>): Promise<Hub> {
  const home = mkdtempSync(join(tmpdir(), 'node-diffusion-hub-'))
  const server = createServer((request, response) => {
    void answer(hub, request, response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const hub: Hub = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    home,
    requests: [],
    sent: 0,
    cutAfter: undefined,
    damage: false,
    ignoreRange: false,
    delay: 0,
    repositories,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections()
        server.close(() => resolve())
      }),
  }
  const before = { ...process.env }
  for (const name of [
    'HF_TOKEN',
    'HUGGING_FACE_HUB_TOKEN',
    'HF_HUB_CACHE',
    'HUGGINGFACE_HUB_CACHE',
    'HF_HUB_OFFLINE',
  ])
    delete process.env[name]
  process.env.HF_ENDPOINT = hub.url
  process.env.HF_HOME = home
  t.teardown(async () => {
    process.env = before
    await hub.close()
    rmSync(home, { recursive: true, force: true })
  })
  return hub
}

async function answer(hub: Hub, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url!, hub.url)
  const path = decodeURIComponent(url.pathname)
  hub.requests.push(`${request.method} ${path}${request.headers.range ? ` ${request.headers.range}` : ''}`)
  const match = /^(\/api\/models)?\/([^/]+\/[^/]+)\/(revision|tree|resolve)\/(.+)$/.exec(path)
  const repository = match && hub.repositories[match[2]]
  if (!match || !repository) return fail(response, 404, 'RepoNotFound')
  if (repository.token && request.headers.authorization !== `Bearer ${repository.token}`)
    return fail(response, 401, 'GatedRepo')
  const [, , name, route, rest] = match as unknown as [string, string, string, string, string]
  const found = findRevision(name, repository, rest)
  if (!found) return fail(response, 404, 'RevisionNotFound')
  if (route === 'revision') {
    return json(response, {
      _id: '1',
      id: name,
      sha: commitOf(name, found.revision),
      private: false,
      gated: false,
      downloads: 1,
      likes: 1,
      lastModified: '2026-01-01T00:00:00.000Z',
      cardData: { license: repository.licence },
    })
  }
  if (route === 'tree') {
    const entries = Object.entries(found.files).map(([file, bytes]) => ({
      type: 'file',
      path: file,
      size: bytes.length,
      oid: hex('sha1', `blob ${bytes.length}\0`, bytes),
      ...(bytes.length >= LARGE && {
        lfs: { oid: hex('sha256', bytes), size: bytes.length, pointerSize: 130 },
      }),
    }))
    return json(response, [{ type: 'directory', path: 'unet', size: 0, oid: '0'.repeat(40) }, ...entries])
  }
  const bytes = found.files[found.path]
  if (!bytes) return fail(response, 404, 'EntryNotFound')
  return send(hub, request, response, bytes)
}

function findRevision(name: string, repository: Repository, rest: string) {
  const all: Record<string, Record<string, Buffer>> = { main: repository.files, ...repository.revisions }
  for (const [revision, files] of Object.entries(all))
    for (const spelling of [revision, commitOf(name, revision)])
      if (rest === spelling || rest.startsWith(`${spelling}/`))
        return { revision, files, path: rest.slice(spelling.length + 1) }
  return undefined
}

function fail(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status, { 'X-Error-Code': code, 'Content-Type': 'application/json' })
  response.end(JSON.stringify({ error: code }))
}

function json(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { 'Content-Type': 'application/json' })
  response.end(JSON.stringify(value))
}

async function send(
  hub: Hub,
  request: IncomingMessage,
  response: ServerResponse,
  bytes: Buffer,
): Promise<void> {
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '')
  const probe = request.headers.range === 'bytes=0-0'
  const start = range && (probe || !hub.ignoreRange) ? Number(range[1]) : 0
  const end =
    range?.[2] && (probe || !hub.ignoreRange)
      ? Math.min(Number(range[2]), bytes.length - 1)
      : bytes.length - 1
  const part = Buffer.from(bytes.subarray(start, end + 1))
  if (hub.damage && !probe) part[0] ^= 1
  response.writeHead(range ? 206 : 200, {
    ETag: `"${hex('sha1', bytes)}"`,
    'Content-Length': part.length,
    ...(range && { 'Content-Range': `bytes ${start}-${end}/${bytes.length}` }),
  })
  if (probe) return void response.end(part)
  response.setMaxListeners(0)
  const stop = hub.cutAfter !== undefined && part.length > hub.cutAfter ? hub.cutAfter : undefined
  for (let at = 0; at < (stop ?? part.length); at += 65536) {
    const piece = part.subarray(at, Math.min(at + 65536, stop ?? part.length))
    hub.sent += piece.length
    if (!response.write(piece))
      await new Promise((resolve) => response.once('drain', resolve).once('close', resolve))
    if (hub.delay) await new Promise((resolve) => setTimeout(resolve, hub.delay))
    if (response.destroyed) return
  }
  if (stop === undefined) return void response.end()
  hub.cutAfter = undefined
  // What has been written is to arrive first.
  setTimeout(() => response.destroy(), 50)
}
