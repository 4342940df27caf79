/** Finds the names of textual inversion embeddings in prompts. */

/** An embedding's names and the ids of its vectors, one after the other. */
export interface NamedEmbedding {
  names: readonly string[]
  ids: readonly number[]
}

/**
 * Names count as whole words, in capitals or not, also as `embedding:name` or with the file's extension behind that, as
 * ComfyUI has it. Of names that begin with another one the longest counts.
 */
export class EmbeddingNames {
  /** One for each embedding: what it is called where only one name can stand. */
  readonly byId = new Map<number, string>()
  readonly #ids = new Map<string, readonly number[]>()
  readonly #pattern: RegExp

  constructor(embeddings: readonly NamedEmbedding[]) {
    for (const { names, ids } of embeddings) {
      this.byId.set(ids[0], names[0])
      for (const name of names) this.#ids.set(normalize(name), ids)
    }
    const longest = [...this.#ids.keys()].sort((a, b) => b.length - a.length)
    const whole = longest.map((name) => {
      const escaped = name.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')
      return (
        (WORD.test(name[0]) ? `(?<!${WORD.source})` : '') +
        escaped +
        (WORD.test(name.at(-1)!) ? `(?!${WORD.source})` : '')
      )
    })
    const one = `(?:${whole.join('|')})`
    this.#pattern = new RegExp(
      `(?<!${WORD.source})embedding:(?<named>${one})(?:\\.(?:safetensors|pt|bin)(?!${WORD.source}))?|(?<plain>${one})`,
      'giu',
    )
  }

  /** The text in order: the ids of an embedding where it is named, and the text between. */
  *split(text: string): Generator<string | readonly number[], void, undefined> {
    let at = 0
    const whole = text.normalize('NFC')
    for (const match of whole.matchAll(this.#pattern)) {
      if (match.index > at) yield whole.slice(at, match.index)
      yield this.#ids.get(normalize(match.groups!.named ?? match.groups!.plain))!
      at = match.index + match[0].length
    }
    if (at < whole.length || at === 0) yield whole.slice(at)
  }

  /** The text without the names. */
  without(text: string): string {
    return text.normalize('NFC').replace(this.#pattern, ' ')
  }
}

/** Part of a word. */
const WORD = /[\p{L}\p{N}_]/u

/** Names that are equal so mean the same embedding. */
export function normalize(name: string): string {
  return name.normalize('NFC').replaceAll('Σ', 'σ').toLowerCase()
}
