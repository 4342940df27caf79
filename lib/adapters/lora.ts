import type { FileHandle } from 'node:fs/promises'
import { basename, resolve } from 'node:path'
import type { DiffusionError } from '../errors.js'
import { expectation } from '../check.js'
import { readExactly, withFile, type StoredTensor, type TensorFile } from '../models/formats/tensor-file.js'
import { kindByNames } from '../models/families/unsupported-models.js'
import { badFormat, unsupported } from '../models/formats/fail.js'
import { openTensorFile, type ModelDescription } from '../models/index.js'
import { printable, quote } from '../quote.js'
import { changesOf, Misfit, type Change } from './changes.js'
import { familyOf } from './family.js'
import { groupTensors, type Component, type Group } from './groups.js'
import { Places, type Place } from './places.js'

/** A LoRA file and how strongly it is applied. */
export interface LoraSetting {
  path: string
  /** Negative scales reverse the effect. */
  scale: number
  /** For the text encoders. Default: `scale`. */
  textEncoderScale?: number
  /** Factors of the scale for parts of the UNet, by the beginnings of their names: `{ 'down_blocks.1': 0.5 }`. */
  blockScales?: Readonly<Record<string, number>>
}

/** What a file changed in the model. */
export interface AdapterReport {
  path: string
  /** By its tensors: 'LoRA', 'LoCon', 'LoHa', 'LoKr', 'DoRA', '(IA)³', 'full difference'; several joined by ' + '. Or 'textual inversion'. */
  kind: string
  scale: number
  /** The ranks that occur, ascending. */
  ranks: number[]
  /** Number of the file's tensors that change the model. */
  applied: number
  /** The file's other tensors, with the reason where there is one. */
  unplaced: string[]
  /** Of textual inversion: what prompts call its embeddings. */
  tokens?: string[]
}

/** Tensors that LoRA files may contain without changing a layer. */
const IGNORED = /^(bundle_emb\.|ztsnr$|v_pred$)|\.(lora_scale|scale_norm)$/

/**
 * Makes the changes of a LoRA file part of the model's description: the engine applies them when it reads the weights.
 *
 * @throws {DiffusionError} MODEL_NOT_FOUND, MODEL_FORMAT, IO; UNSUPPORTED_MODEL: the file is no LoRA, or belongs to a
 *   model of another family, so that none of its tensors has a place
 */
export async function applyLora(
  model: ModelDescription,
  { path, scale, textEncoderScale = scale, blockScales = {} }: LoraSetting,
): Promise<AdapterReport> {
  const file = await openTensorFile(path)
  const tensors = new Map([...file.tensors].filter(([name]) => !IGNORED.test(name)))
  const { groups, unknown } = groupTensors(tensors)
  // Some IP-Adapters have the tensors of a LoRA, too.
  if (
    !groups.some(isAdapter) ||
    [...tensors.keys()].some((name) => /^(image_proj|ip_adapter)\./.test(name))
  ) {
    const kind = kindByNames(file.tensors)
    throw unsupported(
      path,
      kind?.startsWith('a LoRA') === false
        ? `this is not a LoRA: it is ${kind}`
        : 'this is not a LoRA: none of its tensors is named like one of a LoRA',
    )
  }
  const alphas = await readAlphas(path, groups, file)
  const applied = applyGroups(model, path, file, groups, {
    scaleOf: scales(model, scale, textEncoderScale, blockScales),
    alphas,
    unplaced: unknown.map((name) => printable(name)),
  })
  if (applied.groups.length === 0) throw nothingApplied(path, model, file, applied.unplaced)
  const { ranks, unplaced } = applied
  return { path, kind: kindOf(applied.groups), scale, ranks, applied: applied.applied, unplaced }
}

/** What groups of tensors changed in a model. */
export interface Applied extends Pick<AdapterReport, 'ranks' | 'applied' | 'unplaced'> {
  /** Those that have a place. */
  groups: Group[]
}

/**
 * Makes the changes of groups of a file's tensors part of the model's description.
 *
 * @param how.alphas default: none has an alpha
 * @param how.unplaced tensors that belong to no group
 */
export function applyGroups(
  model: ModelDescription,
  path: string,
  file: TensorFile,
  groups: readonly Group[],
  {
    scaleOf,
    alphas = () => undefined,
    unplaced: others,
  }: {
    scaleOf: (place: { component: Component; tensors: Place }) => number
    alphas?: (group: Group) => number | undefined
    unplaced: readonly string[]
  },
): Applied {
  const absolute = resolve(path)
  const places = new Places(model)
  const unplaced = [...others]
  const changes: { component: Component; group: Group; change: Change }[] = []
  for (const group of groups) {
    const place = places.find(group)
    const index = fileIndex(model, place?.component, absolute)
    const made = place ? changesOf(group, place.tensors, scaleOf(place), alphas(group), index) : undefined
    if (place && made && !(made instanceof Misfit)) {
      for (const change of made) changes.push({ component: place.component, group, change })
    } else if (made instanceof Misfit) {
      unplaced.push(printable(made.reason))
    } else {
      for (const { name } of group.tensors.values()) unplaced.push(printable(name))
    }
  }
  for (const { component, change } of changes) {
    const { files, identities } = sourceOf(model, component)!
    if (!files.includes(absolute)) {
      files.push(absolute)
      identities?.push(file.identity)
    }
    ;(change.tensor.adapters ??= []).push(change.adapter)
  }
  const applied = [...new Set(changes.map(({ group }) => group))]
  return {
    groups: applied,
    ranks: [...new Set(changes.flatMap(({ change }) => rankOf(change)))].sort((a, b) => a - b),
    applied: applied.reduce((sum, { tensors: own }) => sum + own.size, 0),
    unplaced,
  }
}

/** A warning about tensors without a place, if there are any. */
export function unplacedWarning({ path, applied, unplaced }: AdapterReport): string | undefined {
  if (unplaced.length === 0) return undefined
  const some = unplaced.slice(0, 3).join(', ')
  const more = unplaced.length > 3 ? ` and ${unplaced.length - 3} more` : ''
  return `${printable(basename(path))}: ${unplaced.length} of ${applied + unplaced.length} tensors have no place in this model: ${some}${more}`
}

/**
 * The scale of each layer.
 *
 * @throws {RangeError} a block does not exist
 */
function scales(
  { unet }: ModelDescription,
  scale: number,
  textEncoderScale: number,
  blockScales: Readonly<Record<string, number>>,
): (place: { component: Component; tensors: Place }) => number {
  // The longest beginning counts.
  const blocks = Object.entries(blockScales).sort(([a], [b]) => b.length - a.length)
  const within = (name: string, block: string) => name.startsWith(`${block}.`)
  for (const [block] of blocks)
    if (!unet?.source.tensors.some(({ name }) => within(name, block)))
      throw new RangeError(
        expectation('name of a part of the UNet, such as mid_block,', 'blockScales', block),
      )
  return ({ component, tensors }) => {
    if (component !== 'unet') return textEncoderScale
    const [{ name }] = tensors.values()
    return scale * (blocks.find(([block]) => within(name, block))?.[1] ?? 1)
  }
}

function isAdapter({ tensors }: Group): boolean {
  return [...tensors.keys()].some((role) => role !== 'weight' && role !== 'alpha')
}

function sourceOf(model: ModelDescription, component: Component) {
  if (component === 'unet') return model.unet?.source
  return model.textEncoders[component === 'text-1' ? 0 : 1]?.source
}

/** The index that the adapter's file has or will have in the component's source. */
function fileIndex(model: ModelDescription, component: Component | undefined, path: string): number {
  const files = (component && sourceOf(model, component)?.files) ?? []
  const found = files.indexOf(path)
  return found === -1 ? files.length : found
}

/** Reads the file's scalars of alpha. diffusers writes them into the metadata instead. */
async function readAlphas(
  path: string,
  groups: readonly Group[],
  { metadata, identity }: TensorFile,
): Promise<(group: Group) => number | undefined> {
  const stored = new Map<Group, StoredTensor>()
  for (const group of groups) {
    const alpha = group.tensors.get('alpha')
    if (alpha) stored.set(group, alpha)
  }
  const values = new Map<Group, number>()
  const read = async (file: FileHandle) => {
    for (const [group, tensor] of stored) {
      if (tensor.shape.some((length) => length !== 1) || tensor.bytes > 8)
        throw badFormat(path, `tensor ${quote(tensor.name)}: expected one number, found [${tensor.shape}]`)
      values.set(group, toNumber(path, tensor, await readExactly(path, file, tensor.offset, tensor.bytes)))
    }
  }
  await withFile(path, read, identity)
  const fromMetadata = alphaInMetadata(metadata.get('lora_adapter_metadata'))
  return (group) => values.get(group) ?? fromMetadata(group)
}

function toNumber(path: string, { name, type }: StoredTensor, bytes: Buffer): number {
  switch (type) {
    case 'f32':
      return bytes.readFloatLE()
    case 'f64':
      return bytes.readDoubleLE()
    case 'i64':
      return Number(bytes.readBigInt64LE())
    case 'i32':
      return bytes.readInt32LE()
    case 'bf16':
      return new Float32Array(Uint32Array.of(bytes.readUInt16LE() << 16).buffer)[0]
    case 'f16': {
      const bits = bytes.readUInt16LE()
      const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023]
      const size = exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25)
      return bits >> 15 ? -size : size
    }
    default:
      throw badFormat(path, `tensor ${quote(name)}: expected a number, found the type ${type}`)
  }
}

/** diffusers' metadata: { "unet.r": 4, "unet.lora_alpha": 8, "unet.alpha_pattern": { … }, … }. */
function alphaInMetadata(text: unknown): (group: Group) => number | undefined {
  let fields: Record<string, unknown> = {}
  try {
    const parsed: unknown = typeof text === 'string' ? JSON.parse(text) : undefined
    if (typeof parsed === 'object' && parsed !== null) fields = parsed as Record<string, unknown>
  } catch {
    // Metadata is a hint; without it ΔW is not rescaled.
  }
  const names = { unet: 'unet', 'text-1': 'text_encoder', 'text-2': 'text_encoder_2' } as const
  return ({ component, layer, tensors }) => {
    if (!component) return undefined
    const prefix = names[component]
    const pattern = fields[`${prefix}.alpha_pattern`]
    const own =
      typeof pattern === 'object' && pattern !== null && Object.hasOwn(pattern, layer)
        ? (pattern as Record<string, unknown>)[layer]
        : fields[`${prefix}.lora_alpha`]
    if (typeof own !== 'number') return undefined
    const rank = tensors.get('down')?.shape[0]
    // Rank-stabilized LoRA divides by the root of the rank.
    return fields[`${prefix}.use_rslora`] === true && rank ? own * Math.sqrt(rank) : own
  }
}

const KINDS: readonly (readonly [string, (group: Group) => boolean])[] = [
  ['DoRA', ({ tensors }) => tensors.has('magnitude') || tensors.has('dora_scale')],
  ['LoHa', ({ tensors }) => tensors.has('hada_w1_a')],
  ['LoKr', ({ tensors }) => [...tensors.keys()].some((role) => role.startsWith('lokr'))],
  ['LoCon', ({ tensors }) => tensors.has('down') && isConvolution(tensors.get('down')!, tensors.get('mid'))],
  ['LoRA', ({ tensors }) => tensors.has('down')],
  ['(IA)³', ({ tensors }) => tensors.has('on_input')],
  ['full difference', ({ tensors }) => tensors.has('diff') || tensors.has('diff_b')],
]

function isConvolution({ shape }: StoredTensor, mid: StoredTensor | undefined): boolean {
  return mid !== undefined || shape.slice(2).some((length) => length > 1)
}

function kindOf(groups: readonly Group[]): string {
  const found = new Set(groups.map((group) => KINDS.find(([, is]) => is(group))?.[0]))
  // A LoCon has linear layers, too.
  if (found.has('LoCon')) found.delete('LoRA')
  return KINDS.flatMap(([kind]) => (found.has(kind) ? [kind] : [])).join(' + ')
}

function rankOf({ adapter: { factors, kind } }: Change): number[] {
  if (kind === 'difference' || kind.startsWith('rescale')) return []
  return factors.flatMap(([, down]) => (down ? [down.shape[0]] : []))
}

function nothingApplied(
  path: string,
  model: ModelDescription,
  file: TensorFile,
  unplaced: readonly string[],
): DiffusionError {
  const family = familyOf(file)
  const is = family === undefined ? 'does not belong to this model' : `is for ${family}`
  return unsupported(
    path,
    `this LoRA ${is}, and the model is ${model.architecture}: none of its tensors has a place, such as ${unplaced[0]}`,
  )
}
