/**
 * `npm run lint:includes`: the engine's includes go one way. Reads every #include "…" of the C++ sources and refuses
 * cycles (of files and of layers), arrows that the table below does not allow, and text that a layer must not contain.
 * `--root DIR` checks another tree.
 */
import { readFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { includesOf, sourceFiles, withoutComments } from './includes.mjs'

/**
 * What each layer may include besides itself: other layers, or single files of them. A file belongs to the layer with the
 * longest folder that holds it. The tests and benchmarks may include everything.
 */
const layers = [
  { name: 'core', folder: 'cpp/core', may: [] },
  { name: 'weights', folder: 'cpp/weights', may: ['core'] },
  { name: 'nn', folder: 'cpp/nn', may: ['core', 'weights'] },
  // Kernels are called with numbers and addresses: of the layers they share only the names of what multiplies in what.
  { name: 'kernels', folder: 'cpp/cpu/kernels', may: ['core', 'cpp/nn/compute.h'] },
  { name: 'cpu', folder: 'cpp/cpu', may: ['core', 'weights', 'nn', 'kernels'] },
  { name: 'cuda', folder: 'cpp/cuda', may: ['core', 'weights', 'nn'] },
  // Models are written once, for every device.
  { name: 'text', folder: 'cpp/text', may: ['core', 'weights', 'nn'] },
  { name: 'unet', folder: 'cpp/unet', may: ['core', 'weights', 'nn'] },
  { name: 'vae', folder: 'cpp/vae', may: ['core', 'weights', 'nn'] },
  // A ControlNet is a copy of the UNet's encoder.
  { name: 'control', folder: 'cpp/control', may: ['core', 'weights', 'nn', 'unet'] },
  { name: 'vision', folder: 'cpp/vision', may: ['core', 'weights', 'nn'] },
  { name: 'upscale', folder: 'cpp/upscale', may: ['core', 'weights', 'nn'] },
  {
    name: 'binding',
    folder: 'binding',
    may: [
      ...['core', 'weights', 'nn', 'text', 'unet', 'vae', 'control', 'vision', 'upscale'],
      ...['cpp/cpu/backend.h', 'cpp/cpu/cpu_info.h', 'cpp/cuda/devices.h'],
    ],
  },
  { name: 'test', folder: 'test/cpp', may: '*' },
  { name: 'fuzz', folder: 'test/fuzz', may: '*' },
  { name: 'preload', folder: 'test/hostile/preload', may: [] },
  { name: 'cuda-test', folder: 'test/cuda', may: '*' },
  { name: 'bench', folder: 'bench/kernels', may: '*' },
  { name: 'cuda-bench', folder: 'bench/cuda', may: '*' },
]

/** What the code of a layer (comments left out) must not contain. */
const forbiddenText = [
  {
    in: ['text', 'unet', 'vae', 'control', 'vision', 'upscale', 'nn'],
    pattern: /\breinterpret_cast\b/,
    why: 'models and their layers do not look behind a tensor’s address, which may be on another device',
  },
  {
    in: layers.map(({ name }) => name).filter((name) => !['binding', 'preload'].includes(name)),
    pattern: /#\s*include\s*<(napi|node_api|js_native_api)\.h>/,
    why: 'only binding/ knows Node-API',
  },
  {
    in: layers.filter(({ folder }) => /^(cpp|binding)\b/.test(folder)).map(({ name }) => name),
    pattern: /[\w>*&]\s+(interface|near|far|small|hyper|cdecl)\s*[=;,)]/,
    why: 'windows.h defines this name as a macro',
  },
]

function layerOf(file) {
  return layers
    .filter(({ folder }) => file.startsWith(`${folder}/`))
    .sort((a, b) => b.folder.length - a.folder.length)[0]
}

/** Cycles of a graph { from → Map(to → place) }: at least one wherever there are any. */
function cycles(graph) {
  const found = []
  const state = new Map() // 'open' on the path, 'done' behind it
  const path = []
  const visit = (node) => {
    state.set(node, 'open')
    path.push(node)
    for (const next of graph.get(node)?.keys() ?? []) {
      if (state.get(next) === 'open') found.push([...path.slice(path.indexOf(next)), next])
      else if (!state.has(next)) visit(next)
    }
    path.pop()
    state.set(node, 'done')
  }
  for (const node of graph.keys()) if (!state.has(node)) visit(node)
  return found
}

function arrow(graph, from, to, place) {
  if (!graph.has(from)) graph.set(from, new Map())
  if (!graph.get(from).has(to)) graph.get(from).set(to, place)
}

/** What is wrong with the includes below `root`, a line for each finding, and how much was looked at. */
function check(root) {
  const problems = []
  const files = sourceFiles(root, [...new Set(layers.map(({ folder }) => folder.split('/')[0]))])
  const known = new Set(files)
  const ofFiles = new Map()
  const ofLayers = new Map()
  let includes = 0

  for (const file of files) {
    const from = layerOf(file)
    if (!from) {
      problems.push(`${file}: no layer has this folder: give it a line in scripts/check-includes.mjs`)
      continue
    }
    const code = withoutComments(readFileSync(join(root, file), 'utf8'))
    for (const [i, line] of code.split('\n').entries())
      for (const { in: where, pattern, why } of forbiddenText)
        if (where.includes(from.name) && pattern.test(line))
          problems.push(`${file}:${i + 1}: ${line.trim()} (${why})`)

    for (const { line, included, target, candidates } of includesOf(file, code, known)) {
      const place = `${file}:${line}`
      includes++
      if (!target) {
        problems.push(`${place}: "${included}" was not found in ${candidates.map(dirname).join(', ')}`)
        continue
      }
      arrow(ofFiles, file, target, place)
      const to = layerOf(target)
      if (!to || to === from) continue
      arrow(ofLayers, from.name, to.name, place)
      if (from.may !== '*' && !from.may.includes(to.name) && !from.may.includes(target))
        problems.push(`${place}: ${from.name} may not include ${target} (${to.name})`)
    }
  }

  for (const cycle of cycles(ofFiles)) problems.push(`cycle of files: ${cycle.join(' → ')}`)
  for (const cycle of cycles(ofLayers)) {
    const places = cycle.slice(1).map((to, i) => ofLayers.get(cycle[i]).get(to))
    problems.push(`cycle of layers: ${cycle.join(' → ')} (${places.join(', ')})`)
  }
  return { problems, files: files.length, includes }
}

const here = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const at = process.argv.indexOf('--root')
const { problems, files, includes } = check(at < 0 ? here : resolve(process.argv[at + 1]))
for (const problem of problems) console.error(problem)
console.log(
  problems.length === 0
    ? `${includes} includes in ${files} files: no cycle, no forbidden arrow`
    : `${problems.length} ${problems.length === 1 ? 'problem' : 'problems'} in ${files} files`,
)
process.exit(problems.length === 0 ? 0 : 1)
