// Renders the subjects of subjects.txt in both styles to one raw file, and writes their names and keywords beside it.
//
//   node tools/train/data.mjs ~/nd-train/data
//
// drawings.bin holds uint8 [subjects × styles, SIZE, SIZE, RGBA], not premultiplied, subject-major; drawings.json is its index.
import { homedir } from 'node:os'
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import sharp from 'sharp' // a dependency of the package, from the root's node_modules

/** Twice the size of the training pictures: the composer scales drawings down, never up. */
const SIZE = 128
const SETS = [
  { style: 'flat', package: '@iconify-json/fluent-emoji-flat' },
  { style: 'noto', package: '@iconify-json/noto' },
]
/** Keywords that name a colour, a place, a number, or nothing that can be drawn. */
const NOT_NAMES = new Set(
  (
    'alpha order big under down ugly wise proud talk pirate zoo bearer knights small anniversary elegant beauty outdoors ' +
    'growth decor grow nurturing green four falling diet health ripe sour potassium wild eat easy fry over pan side iron ' +
    'indecisive serve chip summer men morning nice cool rad whatever night yes way epic filling holiday merry man stuffed ' +
    'one press beast bench like peace trans lit danger showing class gang ride spin racing yellow extra simple where bless ' +
    'city job pool future direct hit formal family gold shiny left science search tilted dark woman personal back front ' +
    'idea closed bet cost major repairs negative positive shape step done sand late waiting wall driving dinner medium ' +
    'choose launch camping surprise movie country ranch settle future bull direct cut purple safari dead death horn fishing'
  ).split(' '),
)
const require = createRequire(import.meta.url)
const out = process.argv[2] ?? join(homedir(), 'nd-train', 'data')

/** `slug = name, other name` for each subject; without names, the slug with spaces. */
function readSubjects() {
  const lines = readFileSync(new URL('subjects.txt', import.meta.url), 'utf8').split('\n')
  return lines
    .filter((line) => line.trim() && !line.startsWith('#'))
    .map((line) => {
      const [slug, names] = line.split('=').map((part) => part.trim())
      return {
        slug,
        names: names ? names.split(',').map((name) => name.trim()) : [slug.replaceAll('-', ' ')],
      }
    })
}

/** Adds the keywords that emojibase gives to exactly one of our subjects, so that they name it unambiguously. */
function addKeywords(subjects, chars) {
  const entries = new Map(require('emojibase-data/en/compact.json').map((entry) => [entry.hexcode, entry]))
  const plain = (hexcode) => hexcode.toLowerCase().replaceAll('-fe0f', '')
  const bySlug = new Map()
  for (const [hexcode, entry] of entries) {
    const slug = chars[plain(hexcode)] ?? chars[hexcode.toLowerCase()]
    if (slug) bySlug.set(slug, entry)
  }
  const users = new Map()
  for (const { slug } of subjects)
    for (const tag of bySlug.get(slug)?.tags ?? []) users.set(tag, (users.get(tag) ?? 0) + 1)
  const taken = new Set(subjects.flatMap(({ names }) => names.flatMap((name) => [name, ...name.split(' ')])))
  for (const subject of subjects)
    subject.keywords = (bySlug.get(subject.slug)?.tags ?? []).filter(
      (tag) =>
        users.get(tag) === 1 &&
        !NOT_NAMES.has(tag) &&
        !taken.has(tag) &&
        !taken.has(tag.replace(/s$/, '')) &&
        /^[a-z]{3,12}$/.test(tag),
    )
}

function svg(set, name) {
  const icon = set.icons[name] ?? set.icons[set.aliases?.[name]?.parent]
  if (!icon) throw new Error(`${set.prefix} has no icon named ${name}`)
  const width = icon.width ?? set.width
  const height = icon.height ?? set.height
  return `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="${SIZE}" height="${SIZE}" viewBox="${icon.left ?? 0} ${icon.top ?? 0} ${width} ${height}">${icon.body}</svg>`
}

const subjects = readSubjects()
addKeywords(subjects, JSON.parse(readFileSync(require.resolve('@iconify-json/noto/chars.json'), 'utf8')))
const sets = SETS.map((set) => JSON.parse(readFileSync(require.resolve(`${set.package}/icons.json`), 'utf8')))

const drawings = []
for (const { slug } of subjects)
  for (const set of sets) {
    const { data, info } = await sharp(Buffer.from(svg(set, slug)))
      .ensureAlpha()
      .raw()
      .toBuffer({ resolveWithObject: true })
    if (info.width !== SIZE || info.height !== SIZE || info.channels !== 4)
      throw new Error(`Expected ${SIZE}×${SIZE} RGBA for ${set.prefix} ${slug}, got ${JSON.stringify(info)}`)
    drawings.push(data)
  }

mkdirSync(out, { recursive: true })
for (const [file, content] of [
  ['drawings.bin', Buffer.concat(drawings)],
  [
    'drawings.json',
    JSON.stringify({ size: SIZE, styles: SETS.map(({ style }) => style), subjects }, null, 1),
  ],
]) {
  const target = join(out, String(file))
  writeFileSync(`${target}.tmp`, content)
  renameSync(`${target}.tmp`, target)
}
console.log(
  `${subjects.length} subjects × ${SETS.length} styles, ${subjects.filter((s) => s.keywords.length).length} with keywords → ${out}`,
)
