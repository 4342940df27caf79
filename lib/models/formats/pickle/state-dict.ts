import { badFormat } from '../fail.js'
import { TimeSlices } from '../time-slices.js'
import { showValue } from './globals.js'
import { ParameterContainer, PickledTensor, type Value } from './values.js'

/** Finds the tensors of a model in what a file contains. */

/** Keys that trainers put around the tensors, the one that counts first. */
const WRAPPERS = ['state_dict', 'model_state_dict', 'params_ema', 'params', 'module', 'model', 'generator']
const MAX_DEPTH = 8
const MAX_TENSORS = 100_000

export interface StateDict {
  named: Map<string, PickledTensor>
  /** Numbers and texts beside the tensors, such as global_step. */
  metadata: Map<string, unknown>
}

export async function findStateDict(path: string, root: Value): Promise<StateDict> {
  const metadata = new Map<string, unknown>()
  let dictionary = asDictionary(root)
  for (let depth = 0; dictionary && depth < 4; depth++) {
    for (const [key, value] of dictionary)
      if (typeof key === 'string' && /^(string|number|boolean)$/.test(typeof value)) metadata.set(key, value)
    const inner: Map<Value, Value> | undefined = wrapped(dictionary)
    if (!inner) break
    dictionary = inner
  }
  if (root instanceof PickledTensor) dictionary = new Map([['tensor', root]])
  if (!dictionary)
    throw badFormat(path, `expected a dictionary of tensors in the pickle, found ${showValue(root)}`)
  return { named: withoutModule(await flatten(path, dictionary)), metadata }
}

function asDictionary(value: Value | undefined): Map<Value, Value> | undefined {
  if (value instanceof ParameterContainer && value.state instanceof Map)
    return asDictionary(value.state.get('_parameters'))
  return value instanceof Map ? value : undefined
}

function wrapped(dictionary: Map<Value, Value>): Map<Value, Value> | undefined {
  for (const key of WRAPPERS) {
    const inner = asDictionary(dictionary.get(key))
    if (inner && [...inner.values()].some((v) => v instanceof PickledTensor || asDictionary(v))) return inner
  }
  return undefined
}

/** The tensors of a dictionary and of those in it, with dots between the keys. */
async function flatten(path: string, root: Map<Value, Value>): Promise<Map<string, PickledTensor>> {
  const found = new Map<string, PickledTensor>()
  const slices = new TimeSlices()
  // A dictionary that is there twice is visited once, so that nesting does not multiply the work.
  const visited = new Set<Map<Value, Value>>()
  const open: [Map<Value, Value>, prefix: string, depth: number][] = [[root, '', 0]]
  for (let next = open.pop(); next; next = open.pop()) {
    const [dictionary, prefix, depth] = next
    if (visited.has(dictionary)) continue
    visited.add(dictionary)
    for (const [key, value] of dictionary) {
      await slices.pause()
      if (typeof key !== 'string') continue
      const name = prefix + key
      if (value instanceof PickledTensor) found.set(name, value)
      const inner = asDictionary(value)
      if (inner && depth < MAX_DEPTH) open.push([inner, `${name}.`, depth + 1])
      if (found.size > MAX_TENSORS)
        throw badFormat(path, `expected at most ${MAX_TENSORS} tensors, found more`)
    }
  }
  return found
}

/** torch's DataParallel puts `module.` before all names. */
function withoutModule(named: Map<string, PickledTensor>): Map<string, PickledTensor> {
  const prefix = 'module.'
  if (named.size === 0 || ![...named.keys()].every((name) => name.startsWith(prefix))) return named
  return new Map([...named].map(([name, tensor]) => [name.slice(prefix.length), tensor]))
}
