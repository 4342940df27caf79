import type { TensorAdapter, TensorEntry, TensorType } from '../native.js'
import type { StoredTensor } from '../models/formats/tensor-file.js'
import type { Group, Role } from './groups.js'
import type { Place } from './places.js'

/** A tensor of the model and what the adapter changes in it. */
export interface Change {
  tensor: TensorEntry
  adapter: TensorAdapter
}

/** Why the tensors of a group cannot be applied. */
export class Misfit {
  constructor(readonly reason: string) {}
}

/** Types that adapters' tensors can have. */
export const TYPES: readonly TensorType[] = ['f32', 'f16', 'bf16', 'q8_0']

/**
 * What a group of tensors changes in a layer.
 *
 * @param strength the scale that the caller asked for
 * @param alpha the group's alpha, where the file has one; otherwise ΔW is not rescaled
 * @param file index of the adapter's file in the source of the component
 */
export function changesOf(
  { tensors }: Group,
  place: Place,
  strength: number,
  alpha: number | undefined,
  file: number,
): Change[] | Misfit {
  const stored = (role: Role) => tensors.get(role)
  for (const [role, { name, type }] of tensors)
    if (role !== 'alpha' && role !== 'on_input' && !(TYPES as string[]).includes(type))
      return new Misfit(`${name}: expected one of the types ${TYPES.join(', ')}, found ${type}`)
  const changes: Change[] = []
  const bias = stored('diff_b')
  if (bias) {
    const tensor = place.get('bias')
    if (!tensor) return new Misfit(`${bias.name}: the layer has no bias`)
    const adapter: TensorAdapter = { kind: 'difference', scale: strength, factors: [[entry(bias, file)]] }
    changes.push({ tensor, adapter })
  }
  const matrix = weightChange(tensors, strength, alpha, file)
  if (matrix instanceof Misfit) return matrix
  const tensor = place.get('weight')
  if (matrix && tensor) {
    changes.push({ tensor, adapter: withMagnitude(matrix, tensors, tensor, strength, file) })
  }
  for (const { tensor, adapter } of changes) {
    const { name } = adapter.factors[0][0]
    if (!Number.isFinite(adapter.scale)) return new Misfit(`${name}: alpha or rank is not a number above 0`)
    const [size, wanted] = [sizeOf(adapter, tensor.shape), matrixSize(tensor.shape)]
    if (size.join() !== wanted.join())
      return new Misfit(`${name}: a change of [${size}] does not fit ${tensor.name} of [${wanted}]`)
  }
  return changes.length > 0 ? changes : new Misfit(`${[...tensors.values()][0].name}: tensors are missing`)
}

function weightChange(
  tensors: Group['tensors'],
  strength: number,
  alpha: number | undefined,
  file: number,
): TensorAdapter | Misfit | undefined {
  const has = (...roles: Role[]) => roles.every((role) => tensors.has(role))
  const parts = (...roles: Role[]) =>
    roles.flatMap((role) => {
      const tensor = tensors.get(role)
      return tensor ? [entry(tensor, file)] : []
    })
  const scaleFor = (rank: number) => strength * (alpha === undefined ? 1 : alpha / rank)
  if (has('up', 'down')) {
    const rank = tensors.get('down')!.shape[0]
    return { kind: 'low-rank', scale: scaleFor(rank), factors: [parts('up', 'down', 'mid')] }
  }
  if (has('hada_w1_a', 'hada_w1_b', 'hada_w2_a', 'hada_w2_b')) {
    const rank = tensors.get('hada_w1_b')!.shape[0]
    const factors = [parts('hada_w1_a', 'hada_w1_b', 'hada_t1'), parts('hada_w2_a', 'hada_w2_b', 'hada_t2')]
    return { kind: 'hadamard', scale: scaleFor(rank), factors, transposedUp: true }
  }
  const first = has('lokr_w1') ? parts('lokr_w1') : parts('lokr_w1_a', 'lokr_w1_b')
  const second = has('lokr_w2') ? parts('lokr_w2') : parts('lokr_w2_a', 'lokr_w2_b', 'lokr_t2')
  if (first.length > 0 && second.length > 0) {
    // The rank is that of whichever factor is decomposed; if none is, LyCORIS ignores alpha.
    const rank = second.length > 1 ? second[1].shape[0] : first.length > 1 ? first[1].shape[0] : alpha
    return { kind: 'kronecker', scale: scaleFor(rank ?? 1), factors: [first, second], transposedUp: true }
  }
  if (has('diff')) return { kind: 'difference', scale: strength, factors: [parts('diff')] }
  if (has('weight', 'on_input')) {
    // (IA)³: a row of factors, or a column.
    const { shape } = tensors.get('weight')!
    const kind = shape.length > 1 && shape[0] === 1 ? 'rescale-inputs' : 'rescale-outputs'
    return { kind, scale: strength, factors: [parts('weight')] }
  }
  const left = [...tensors.keys()].filter((role) => role !== 'alpha' && role !== 'diff_b')
  return left.length > 0 ? new Misfit(`${tensors.get(left[0])!.name}: other tensors are missing`) : undefined
}

/** DoRA's magnitudes belong to the outputs or, as LyCORIS trains them, to the inputs. */
function withMagnitude(
  adapter: TensorAdapter,
  tensors: Group['tensors'],
  { shape }: TensorEntry,
  strength: number,
  file: number,
): TensorAdapter {
  const magnitude = tensors.get('magnitude') ?? tensors.get('dora_scale')
  if (!magnitude) return adapter
  const magnitudeOfInputs = !tensors.has('magnitude') && magnitude.shape[0] !== shape[0]
  return {
    ...adapter,
    scale: strength === 0 ? 0 : adapter.scale / strength,
    strength,
    magnitude: entry(magnitude, file),
    magnitudeOfInputs,
  }
}

function entry({ name, type, shape, offset, bytes }: StoredTensor, file: number): TensorEntry {
  return { name, type: type as TensorType, shape, file, offset, bytes }
}

/** Outputs and row length of a tensor; a vector is one row. */
function matrixSize(shape: readonly number[]): [number, number] {
  const count = shape.reduce((product, length) => product * length, 1)
  return shape.length < 2 ? [1, count] : [shape[0], count / shape[0]]
}

/** Outputs and row length of a change; `shape` is that of the tensor it belongs to. */
function sizeOf({ kind, factors, transposedUp }: TensorAdapter, shape: readonly number[]): [number, number] {
  const [rows, row] = matrixSize(shape)
  const count = matrixSize(factors[0][0].shape).reduce((a, b) => a * b)
  if (kind === 'rescale-outputs') return [count, row]
  if (kind === 'rescale-inputs') return [rows, (row / shape[1]) * count]
  const sizes = factors.map(([first, down, core]): [number, number] => {
    const [outputs, rank] = matrixSize(first.shape)
    if (!down) return [outputs, rank]
    const row = matrixSize(down.shape)[1]
    if (!core) return [outputs, row]
    const taps = core.shape.slice(2).reduce((product, length) => product * length, 1)
    return [transposedUp ? rank : outputs, row * taps]
  })
  if (kind !== 'kronecker') return sizes[0]
  return [sizes[0][0] * sizes[1][0], sizes[0][1] * sizes[1][1]]
}
