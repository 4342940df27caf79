/** What C++ sources include, for the checks that follow includes. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, posix } from 'node:path'

/** Where an include's path may begin, besides the folder of the file that has it: as in CMakeLists.txt. */
const roots = ['cpp', 'test', 'test/cpp', 'test/cuda/emulator']
const sources = /\.(c|cc|cpp|cu|cuh|h|hpp)$/

/** C++ sources below folders of `root`, with slashes and relative to it. */
export function sourceFiles(root, folders) {
  return folders
    .filter((folder) => existsSync(join(root, folder)))
    .flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: true }).map((name) => join(folder, name)),
    )
    .map((name) => name.replaceAll('\\', '/'))
    .filter((name) => sources.test(name) && !name.includes('/fixtures/'))
    .sort()
}

/** The code without its comments; line breaks stay, so that line numbers hold. */
export function withoutComments(text) {
  return text.replace(/"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])'|\/\/[^\n]*|\/\*[\s\S]*?\*\//g, (found) =>
    found.startsWith('/') ? found.replace(/[^\n]+/g, ' ') : found,
  )
}

/** The #include "…" of a file's code: its line, what it says, and the file that it means, where one of `known` is it. */
export function includesOf(file, code, known) {
  return code.split('\n').flatMap((text, i) => {
    const included = /^\s*#\s*include\s*"([^"]+)"/.exec(text)?.[1]
    if (included === undefined) return []
    const candidates = [dirname(file), ...roots].map((folder) => posix.join(folder, included))
    const target = candidates.find((candidate) => known.has(candidate))
    return [{ line: i + 1, included, target, candidates }]
  })
}

/** Every file with all files that it includes, directly or by way of others, itself among them. */
export function includeClosures(root, files) {
  const known = new Set(files)
  const direct = new Map(
    files.map((file) => {
      const code = withoutComments(readFileSync(join(root, file), 'utf8'))
      return [file, includesOf(file, code, known).flatMap(({ target }) => target ?? [])]
    }),
  )
  const closure = (file, found = new Set()) => {
    if (!found.has(file)) {
      found.add(file)
      for (const next of direct.get(file)) closure(next, found)
    }
    return found
  }
  return new Map(files.map((file) => [file, [...closure(file)].sort()]))
}
