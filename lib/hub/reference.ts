import { DiffusionError } from '../errors.js'
import { quote } from '../quote.js'
import { closest } from '../spelling.js'
import { WELL_KNOWN } from './well-known.js'

/** A model on the Hugging Face Hub. */
export interface HubReference {
  /** 'owner/name' */
  repository: string
  /** A branch, tag or commit. */
  revision: string
  /** One file of the repository, instead of the whole model. */
  file?: string
}

const FORM = 'hf:owner/name[@revision][:file], or hf: and one of the short names'
const PAGE = 'https://huggingface.co/'
const NAME = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,95})$/
const MAX_LENGTH = 1024

/** Whether a path is meant as a model on the Hub. */
export function isHubReference(path: string): boolean {
  return path.startsWith('hf:') || path.startsWith(PAGE)
}

/** `hf:` in place of the address of a repository's page, or of one of its files. */
function withoutAddress(text: string): string {
  if (!text.startsWith(PAGE)) return text
  const [path = ''] = text.slice(PAGE.length).split(/[?#]/)
  const match = /^([^/]+\/[^/]+)(?:\/(?:tree|blob|resolve)\/([^/]+)(?:\/(.+))?)?\/?$/.exec(path)
  if (!match) return text
  const [, repository, revision, file] = match as unknown as [string, string, string?, string?]
  return `hf:${repository}${revision ? `@${revision}` : ''}${file ? `:${file}` : ''}`
}

/**
 * Parses `hf:owner/name`, `hf:owner/name@revision`, `hf:owner/name:file`, `hf:owner/name@revision:folder/file`, and
 * `hf:` with a short name such as `sd15`, and the address of a page on huggingface.co.
 *
 * @throws {DiffusionError} MODEL_NOT_FOUND: it has another form, or the short name is unknown
 */
export function parseReference(text: string): HubReference {
  const fail = (reason: string) => new DiffusionError('MODEL_NOT_FOUND', `${quote(text, 60)}: ${reason}`)
  const reference = withoutAddress(text)
  if (!reference.startsWith('hf:')) throw fail(`expected ${FORM}`)
  const rest = reference.slice('hf:'.length)
  if (rest.length > MAX_LENGTH) throw fail(`expected ${FORM}`)
  if (/^[a-z0-9.-]+$/.test(rest)) {
    const known = WELL_KNOWN.find(({ name }) => name === rest)
    if (known)
      return { repository: known.repository, revision: 'main', ...(known.file && { file: known.file }) }
    const names = WELL_KNOWN.map(({ name }) => name)
    const hint = closest(rest, names)
    throw fail(
      `no short name of a model${hint ? `, did you mean hf:${hint}?` : `. Known: ${names.join(', ')}`}`,
    )
  }
  const match = /^([^/@:]+)\/([^/@:]+)(?:@([^:]+))?(?::(.+))?$/.exec(rest)
  if (!match) throw fail(`expected ${FORM}`)
  const [, owner, name, revision = 'main', file] = match as unknown as [
    string,
    string,
    string,
    string?,
    string?,
  ]
  for (const part of [owner, name])
    if (!NAME.test(part) || part.includes('..') || part.includes('--')) throw fail(`expected ${FORM}`)
  if (!isRelative(revision)) throw fail('expected a branch, tag or commit after @')
  if (file !== undefined && !isRelative(file))
    throw fail('expected a file inside the repository after the colon')
  return { repository: `${owner}/${name}`, revision, ...(file !== undefined && { file }) }
}

/** Whether a path from the network or a caller stays inside its folder. */
export function isRelative(path: string): boolean {
  const parts = path.split('/')
  return (
    !/[\\\0\u0001-\u001f:*?"<>|]/.test(path) &&
    parts.every((part) => part !== '' && part !== '.' && part !== '..')
  )
}
