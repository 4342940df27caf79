/** docs/errors.md has every code, and a line for every message that the sources throw. `…` stands for any text. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import ts from 'typescript'
import { packageRoot } from '../../lib/package-root.js'

const root = packageRoot()
const page = readFileSync(join(root, 'docs/errors.md'), 'utf8')

interface Thrown {
  /** A code, or the class of errors that have none. */
  code: string
  message: string
  file: string
}

function sources(folder: string, extension: RegExp): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => extension.test(name))
    .map((name) => join(folder, name))
}

/** The text of an expression, with … for what is only known when it runs. */
function textOf(node: ts.Expression | undefined): string {
  if (!node) return '…'
  if (ts.isStringLiteralLike(node)) return node.text
  if (ts.isParenthesizedExpression(node)) return textOf(node.expression)
  if (ts.isTemplateExpression(node))
    return node.head.text + node.templateSpans.map(({ literal }) => `…${literal.text}`).join('')
  if (ts.isBinaryExpression(node) && node.operatorToken.kind === ts.SyntaxKind.PlusToken)
    return textOf(node.left) + textOf(node.right)
  if (ts.isCallExpression(node)) {
    const [first] = node.arguments
    if (node.expression.getText() === 'printable') return textOf(first)
    if (node.expression.getText() === 'expectation') return `Expected ${textOf(first)} for … but received …`
  }
  return '…'
}

/** Functions that make an error of a code; the message is their second argument, after the path. */
const makers: Record<string, string> = { badFormat: 'MODEL_FORMAT', unsupported: 'UNSUPPORTED_MODEL' }

function thrownByTypeScript(file: string): Thrown[] {
  const found: Thrown[] = []
  const add = (code: string, message: string) => found.push({ code, message, file })
  const visit = (node: ts.Node): void => {
    if (ts.isNewExpression(node)) {
      const [first, second] = node.arguments ?? []
      const name = node.expression.getText()
      if (name === 'DiffusionError' && ts.isStringLiteral(first)) add(first.text, textOf(second))
      if (name === 'TypeError' || name === 'RangeError') add(name, textOf(first))
    }
    if (ts.isCallExpression(node) && Object.hasOwn(makers, node.expression.getText()))
      add(makers[node.expression.getText()], textOf(node.arguments[1]))
    ts.forEachChild(node, visit)
  }
  const text = readFileSync(join(root, file), 'utf8')
  visit(ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true))
  return found
}

/** C++: the literals of the whole expression, which ends where the parentheses or braces of the call do. */
function thrownByCpp(file: string): Thrown[] {
  const text = readFileSync(join(root, file), 'utf8')
  return [...text.matchAll(/\bErrorCode::(\w+),/g)].map((match) => {
    let [message, depth] = ['', 0]
    for (const [token, literal] of text
      .slice(match.index + match[0].length)
      .matchAll(/"((?:\\.|[^"\\])*)"|[()[\]{};]|[^\s"()[\]{};]+/g)) {
      if (literal !== undefined) message += literal
      else if (/[([{]/.test(token)) depth++
      else if (/[)\]};]/.test(token) && --depth < 0) break
      else if (token !== '+' && !message.endsWith('…')) message += '…'
    }
    return { code: match[1] === 'invalid_argument' ? 'RangeError' : match[1].toUpperCase(), message, file }
  })
}

/** The part of the page for a code or class. */
function section(code: string): string {
  const heading = /Error$/.test(code) ? '## Forms of `TypeError` and `RangeError`' : `### \`${code}\``
  const [, after] = page.split(`\n${heading}\n`)
  return after?.split(/\n##+ /)[0] ?? ''
}

/** What the page says in code spans, as expressions that match messages. */
function patterns(code: string): RegExp[] {
  return (
    [
      ...section(code)
        .replace(/^```[^]*?^```/gm, '')
        .matchAll(/`([^`]+)`/g),
    ]
      .map(([, span]) => span.replace(/\s+/g, ' '))
      // A name alone, such as that of an option, says nothing about a message.
      .filter((span) => span.includes(' '))
      .map((span) => span.replace(/ ?…$/, ''))
      .map((span) => new RegExp(span.split('…').map(escaped).join('[^]*')))
  )
}

const escaped = (text: string) => text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')
/** A word at most: the message is made elsewhere, where it is found. */
const isMadeElsewhere = (message: string) => (message.match(/\p{L}{2,}/gu) ?? []).length < 2

const thrown = [
  ...sources('lib', /\.ts$/)
    .filter((file) => !file.startsWith(join('lib', 'cli')))
    .flatMap(thrownByTypeScript),
  ...sources('cpp', /\.(cpp|h)$/).flatMap(thrownByCpp),
  ...sources('binding', /\.(cpp|h)$/).flatMap(thrownByCpp),
]

t.test('every code has a section', (t) => {
  const declared = readFileSync(join(root, 'lib/errors.ts'), 'utf8')
  const codes = [...declared.matchAll(/^ {2}\| '(\w+)'$/gm)].map(([, code]) => code)
  t.ok(codes.length >= 10)
  for (const code of codes) t.ok(section(code).length > 50, code)
  for (const { code, file } of thrown) t.ok(section(code), `${code} in ${file}`)
  t.end()
})

t.test('every message has a line', (t) => {
  t.ok(thrown.length > 250, `${thrown.length} messages were found`)
  for (const { code, message, file } of thrown) {
    if (isMadeElsewhere(message)) continue
    t.ok(patterns(code).some((pattern) => pattern.test(message)), `${code}: ${message.slice(0, 150)} (${file})`) // prettier-ignore
  }
  t.end()
})

t.test('a message without a line is found', (t) => {
  for (const code of ['MODEL_FORMAT', 'IO', 'RangeError'])
    t.notOk(
      patterns(code).some((pattern) => pattern.test('the moon is not in its first quarter')),
      code,
    )
  t.end()
})
