/** Prompts, or embeddings in their place. */
import { checkText, copyTensor, expectation, isArray } from '../check.js'
import { defaults } from './defaults.js'
import type { ModelFacts } from './request.js'

/** Maximum number of characters of one prompt. */
export { MAX_TEXT_LENGTH as maxPromptLength } from '../check.js'

/** Prompts or embeddings and the negative ones for them; `rows` is their number. */
export function checkTexts(
  o: Record<string, unknown>,
  { contextWidth, maxClipSkip, extraInput }: ModelFacts,
) {
  const embeds = (key: 'promptEmbeds' | 'negativePromptEmbeds', shape: number[]) =>
    o[key] === undefined ? undefined : copyTensor(o[key], key, shape)
  const promptEmbeds = embeds('promptEmbeds', [-1, -1, contextWidth])
  if (promptEmbeds && o.prompt !== undefined) {
    throw new TypeError('Expected either prompt or promptEmbeds but received both')
  }
  // As in diffusers, an image alone can say what a variation of it shows.
  const prompt = o.prompt === undefined && extraInput === 'embedded-image' ? '' : o.prompt
  if (!promptEmbeds && prompt === undefined) throw new TypeError(expectation('string', 'prompt', prompt))
  if (!promptEmbeds && maxClipSkip < 0) {
    throw new TypeError('Expected promptEmbeds, as this model has no text encoder')
  }
  const prompts = promptEmbeds ? [] : texts(prompt, 'prompt')
  const rows = promptEmbeds ? promptEmbeds.shape[0] : prompts.length
  const negativePromptEmbeds = embeds('negativePromptEmbeds', [
    -1,
    promptEmbeds?.shape[1] ?? -1,
    contextWidth,
  ])
  if (negativePromptEmbeds) {
    if (!promptEmbeds) throw new TypeError('Expected promptEmbeds, as negativePromptEmbeds was given')
    if (o.negativePrompt !== undefined) {
      throw new TypeError('Expected either negativePrompt or negativePromptEmbeds but received both')
    }
    if (![1, rows].includes(negativePromptEmbeds.shape[0])) {
      throw new RangeError(
        `Expected shape [${rows}, …] for negativePromptEmbeds but received [${negativePromptEmbeds.shape.join(', ')}]`,
      )
    }
  }
  if (promptEmbeds && o.negativePrompt !== undefined)
    throw new TypeError('Expected negativePromptEmbeds in place of negativePrompt, as promptEmbeds was given')
  const given = texts(
    o.negativePrompt === undefined ? defaults.negativePrompt : o.negativePrompt,
    'negativePrompt',
  )
  if (given.length !== 1 && given.length !== rows) {
    throw new RangeError(
      `Expected 1 or ${rows} strings for negativePrompt, as for prompt, but received ${given.length}`,
    )
  }
  const negativePrompts = given.length === rows ? given : new Array<string>(rows).fill(given[0])
  const second = (key: 'prompt2' | 'negativePrompt2') => {
    if (o[key] === undefined) return undefined
    if (promptEmbeds) throw new TypeError(`Expected no ${key}, as promptEmbeds was given`)
    const list = texts(o[key], key)
    if (list.length !== 1 && list.length !== rows) {
      throw new RangeError(
        `Expected 1 or ${rows} strings for ${key}, as for prompt, but received ${list.length}`,
      )
    }
    return list.length === rows ? list : new Array<string>(rows).fill(list[0])
  }
  return {
    prompts,
    negativePrompts,
    prompts2: second('prompt2'),
    negativePrompts2: second('negativePrompt2'),
    negativeGiven: o.negativePrompt !== undefined || o.negativePrompt2 !== undefined,
    promptEmbeds,
    negativePromptEmbeds,
    rows,
  }
}

function texts(value: unknown, path: string): string[] {
  if (!isArray(value)) {
    if (typeof value !== 'string') throw new TypeError(expectation('string or array of strings', path, value))
    return [checkText(value, path)]
  }
  if (value.length < 1 || value.length > 256) {
    throw new RangeError(expectation('between 1 and 256 strings', path, value))
  }
  // Unlike map(), Array.from() does not skip the holes of a sparse array.
  return Array.from(value, (text, i) => checkText(text, `${path}[${i}]`))
}
