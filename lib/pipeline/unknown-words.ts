import { closest } from '../spelling.js'

/** Words, numbers and pictographs; weights such as `:1.3` are no words. */
const WORDS = /\p{L}+|(?<![:.\d])\p{N}+(?![.\d])|\p{Extended_Pictographic}/gu

/** The words of `texts` that are not in `known`, each once, quoted, with the likely spelling where there is one. */
export function unknownWords(known: ReadonlySet<string>, texts: readonly string[]): string[] {
  const found = texts.flatMap((text) => text.toLowerCase().match(WORDS) ?? [])
  const unknown = [...new Set(found)].filter((word) => !known.has(word))
  return unknown.map((word) => {
    // Any short word is near some other.
    const near = word.length < 4 ? undefined : closest(word, known)
    return near === undefined ? `"${word}"` : `"${word}" (${near}?)`
  })
}
