import { DiffusionError } from '../errors.js'
import { chooseWeights } from '../models/index.js'
import { printable } from '../quote.js'
import type { HubFile } from './client.js'
import { isRelative } from './reference.js'

/** Chooses the files of a repository that a model consists of. Repositories often hold the same weights several times. */

/** Parts of pipelines that are never loaded. */
const UNUSED_PARTS = new Set(['safety_checker', 'feature_extractor'])
const WEIGHTS = /\.(safetensors|gguf|ckpt|pth?|bin)$/
/** Half the size of float32, and as good: most models were published with it. */
const PREFERRED_VARIANT = 'fp16'
const MAX_LISTED = 12

export class Selection {
  readonly #byPath: ReadonlyMap<string, HubFile>

  constructor(
    private readonly repository: string,
    files: readonly HubFile[],
    private readonly variant: string = PREFERRED_VARIANT,
  ) {
    // The names come from the network and become paths.
    this.#byPath = new Map(files.filter(({ path }) => isRelative(path)).map((file) => [file.path, file]))
  }

  /** model_index.json, which names the parts of a pipeline. */
  get index(): HubFile | undefined {
    return this.#byPath.get('model_index.json')
  }

  /** One file of the repository, or a folder with one part of a model. */
  named(path: string): HubFile[] {
    const file = this.#byPath.get(path)
    if (file) return [file]
    const part = this.#part(`${path}/`)
    if (part.length > 0) return part
    throw this.#missing(`has no file ${printable(path)}`)
  }

  /** A whole pipeline with these parts; without an index, one part or the only file. */
  all(parts: readonly string[] | undefined): HubFile[] {
    if (parts && this.index) {
      const folders = parts.filter((part) => !UNUSED_PARTS.has(part) && isRelative(part))
      return [this.index, ...folders.flatMap((part) => this.#part(`${part}/`))]
    }
    if (this.#byPath.has('config.json')) return this.#part('')
    const single = this.#names('').filter((name) => WEIGHTS.test(name))
    if (single.length === 1) return [this.#byPath.get(single[0])!]
    throw this.#missing(
      single.length > 1 ? 'holds several models' : 'holds no model that node-diffusion knows',
    )
  }

  /** The files of one component: its configuration, and its weights once. */
  #part(prefix: string): HubFile[] {
    const names = this.#names(prefix)
    const weights = chooseWeights(names, this.variant)
    const chosen = names.filter(
      (name) => /\.(json|txt)$/.test(name) && !/\.index(\.[\w-]+)?\.json$/.test(name),
    )
    if (weights) chosen.push(weights.name)
    if (weights?.index) {
      const shard = new RegExp(
        `^${weights.stem}(?:\\.([\\w-]+?))?-\\d{5}-of-\\d{5}(?:\\.([\\w-]+))?\\${weights.extension}$`,
      )
      chosen.push(
        ...names.filter((name) => {
          const match = shard.exec(name)
          return match && (match[1] ?? match[2] ?? '') === weights.variant
        }),
      )
    }
    return chosen.map((name) => this.#byPath.get(prefix + name)!)
  }

  /** The names of the files directly in a folder. */
  #names(prefix: string): string[] {
    return [...this.#byPath.keys()]
      .filter((path) => path.startsWith(prefix) && !path.slice(prefix.length).includes('/'))
      .map((path) => path.slice(prefix.length))
  }

  #missing(reason: string): DiffusionError {
    const files = [...this.#byPath.keys()].filter((path) => WEIGHTS.test(path))
    const list = files.slice(0, MAX_LISTED).map((path) => `hf:${this.repository}:${printable(path)}`)
    const more = files.length > list.length ? ', …' : ''
    const hint = list.length > 0 ? `. Name a file: ${list.join(', ')}${more}` : ''
    return new DiffusionError('MODEL_NOT_FOUND', `${this.repository} ${reason}${hint}`)
  }
}
