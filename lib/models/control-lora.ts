import type { ControlNetConfig, ModelSource, TensorAdapter, TensorEntry } from '../native.js'
import { quote } from '../quote.js'
import { addTensor, matchTensors, type Tensors } from './component.js'
import { deriveImageLayers } from './families/control-net.js'
import { requiredTensors } from './families/required-tensors.js'
import { badFormat, unsupported } from './formats/fail.js'
import type { StoredTensor } from './formats/tensor-file.js'
import { openTensorFile } from './index.js'
import type { ComponentDescription, ModelDescription } from './model-description.js'
import { renameControlNet } from './names/control-net.js'
import { isFolder } from './tokenizer-files.js'

/** An empty tensor that Stability AI's files have. */
const MARKER = 'lora_controlnet'

/** The matrices of a change of low rank, as torch has them: [outputs, rank, …] and [rank, inputs, …]. */
interface Pair {
  up: StoredTensor
  down: StoredTensor
}

/**
 * Describes the ControlNet that a control-LoRA makes of a model: the tensors of the UNet's encoder, which the file changes
 * by products of low rank, and others that are in the file as they are. The weights of the model are read from its own
 * files.
 *
 * @param model with the LoRAs of load(): they are part of what is changed
 * @returns undefined if the file is something else
 * @throws {DiffusionError} MODEL_NOT_FOUND, MODEL_FORMAT, IO; MODEL_SHAPE, UNSUPPORTED_MODEL: it was made for another model
 */
export async function openControlLora(
  path: string,
  { unet }: Required<Pick<ModelDescription, 'unet'>>,
): Promise<ComponentDescription<ControlNetConfig> | undefined> {
  if (await isFolder(path)) return undefined
  const file = await openTensorFile(path)
  if (!file.tensors.has(MARKER)) return undefined
  const { tensors, pairs } = splitPairs(path, file.tensors)
  const config = configOf(path, unet.config, tensors)
  const ofModel = new Map(unet.source.tensors.map((tensor) => [tensor.name, tensor]))
  const required = requiredTensors(path, 'controlNet', config)
  const [wanted, base]: [{ name: string; shape: number[] }[], TensorEntry[]] = [[], []]
  for (const { name, shape } of required) {
    const pair = pairs.get(name)
    if (!pair && tensors.has(name)) {
      wanted.push({ name, shape })
      continue
    }
    const changed = ofModel.get(name)
    if (!changed) throw badFormat(path, `tensor ${name} of shape [${shape}] is missing`)
    base.push(changed)
    if (!pair) continue
    checkPair(path, pair, shape)
    for (const part of ['up', 'down'] as const) {
      wanted.push({ name: `${name}.${part}`, shape: pair[part].shape })
      tensors.set(`${name}.${part}`, pair[part])
    }
    tensors.delete(name)
  }
  const own = matchTensors(path, [file], tensors, wanted, true)
  return { config, source: joined(unet.source, base, own) }
}

/** The tensors by diffusers' names, and those that stand for a pair: the first of each is also in `tensors`. */
function splitPairs(path: string, all: Tensors): { tensors: Tensors; pairs: Map<string, Pair> } {
  const given: Tensors = new Map()
  for (const [name, tensor] of all) {
    if (name === MARKER || name.endsWith('.down')) continue
    addTensor([path], given, name.replace(/\.up$/, '.weight'), tensor)
  }
  const tensors = renameControlNet([path], given)
  const pairs = new Map<string, Pair>()
  for (const [name, up] of tensors) {
    if (!up.name.endsWith('.up')) continue
    const other = up.name.replace(/up$/, 'down')
    const down = all.get(other)
    if (!down) throw badFormat(path, `tensor ${quote(other)} is missing`)
    pairs.set(name, { up, down })
  }
  for (const name of all.keys()) {
    const other = name.replace(/down$/, 'up')
    if (name.endsWith('.down') && !all.has(other)) throw badFormat(path, `tensor ${quote(other)} is missing`)
  }
  return { tensors, pairs }
}

/** The model's encoder, without what a ControlNet does not see, and the layers that embed a picture. */
function configOf(
  path: string,
  { guidanceWidth, classEmbedding, ...unet }: ControlNetConfig['unet'],
  tensors: Tensors,
): ControlNetConfig {
  return { unet, ...deriveImageLayers(path, tensors) }
}

function checkPair(path: string, { up, down }: Pair, shape: readonly number[]): void {
  const size = (list: readonly number[]) => list.reduce((product, length) => product * length, 1)
  const [outputs, rank] = [up.shape[0], down.shape[0]]
  const fits =
    up.shape.length >= 2 &&
    down.shape.length >= 2 &&
    outputs === shape[0] &&
    size(up.shape) === outputs * rank &&
    size(down.shape.slice(1)) === size(shape.slice(1))
  if (!fits)
    throw unsupported(
      path,
      `this control-LoRA was made for another model: tensors ${quote(up.name)} and ${quote(down.name)} of ` +
        `[${up.shape}] and [${down.shape}] do not change one of [${shape}]`,
    )
}

/** The tensors of the model's files, changed by pairs of the control-LoRA's, and further ones of its own. */
function joined(
  { files, identities }: ModelSource,
  base: readonly TensorEntry[],
  own: ModelSource,
): ModelSource {
  const mine = new Map(own.tensors.map((tensor) => [tensor.name, { ...tensor, file: files.length }]))
  const tensors = base.map((tensor): TensorEntry => {
    const [up, down] = ['up', 'down'].map((part) => mine.get(`${tensor.name}.${part}`))
    if (!up || !down) return tensor
    for (const part of ['up', 'down']) mine.delete(`${tensor.name}.${part}`)
    const adapter: TensorAdapter = { kind: 'low-rank', scale: 1, factors: [[up, down]] }
    return { ...tensor, adapters: [...(tensor.adapters ?? []), adapter] }
  })
  return {
    files: [...files, ...own.files],
    ...(identities && own.identities && { identities: [...identities, ...own.identities] }),
    tensors: [...tensors, ...mine.values()],
  }
}
