import { badFormat } from './fail.js'

/**
 * Recognizes what downloads leave in place of a file of a model: an error page, an answer in JSON, a Git LFS pointer.
 *
 * @param head the first bytes of the file
 */
export function notAModel(path: string, head: Buffer): Error | undefined {
  const text = head.toString('latin1').replace(/^\u00ef\u00bb\u00bf/, '')
  if (text.startsWith('version https://git-lfs')) {
    return badFormat(
      path,
      'this is a Git LFS pointer and not the file itself: run git lfs pull, or download the file itself',
    )
  }
  if (/^\s*<(!doctype|!--|html|head|body|\?xml)/i.test(text))
    return badFormat(path, 'this is a web page (HTML) and not a model: the download went wrong')
  return undefined
}

/** The same for files of tensors, in place of which JSON comes too. */
export function notTensors(path: string, head: Buffer): Error | undefined {
  const other = notAModel(path, head)
  if (other) return other
  // The length at the beginning of a safetensors file ends with zeros.
  const text = head.toString('latin1')
  if (!/^\s*[[{]\s*["\]}[{]/.test(text) || text.includes('\0')) return undefined
  return badFormat(
    path,
    'this is JSON and not a model: the answer of a server, or the configuration or index of a model, whose folder to name instead',
  )
}
