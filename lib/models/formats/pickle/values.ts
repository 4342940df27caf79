/** What a pickle can create: plain values, plain containers, tensors, and nothing else. */

/** An element type of torch, by the name that StoredTensor has, and its bytes. */
export interface ElementType {
  readonly name: string
  readonly bytes: number
}

/** The bytes that tensors share. */
export interface Storage {
  readonly key: string
  readonly type: ElementType
  /** Number of elements of the whole storage. */
  readonly elements: number
  /** First element, for the views of very old files. */
  readonly first: number
}

/** A view of a storage. */
export class PickledTensor {
  constructor(
    readonly storage: Storage,
    readonly type: ElementType,
    /** The first element, in elements of `type` from the start of the storage. */
    readonly offset: number,
    readonly shape: number[],
    readonly strides: number[],
  ) {}
}

/** A module that holds parameters: torch.nn.ParameterDict. */
export class ParameterContainer {
  state: Value = null
}

/** A class or function that the pickle names, from the list in globals.ts. */
export class Global {
  constructor(
    readonly name: string,
    /** The result of a call with these arguments. */
    readonly call?: (args: Value[], context: CallContext) => Value,
    readonly element?: ElementType,
  ) {}
}

export interface CallContext {
  /** An error that names the place in the pickle. */
  fail(message: string): Error
  /** Counts elements that a call copies. */
  count(elements: number): void
}

/** A value without meaning for a model: byte strings, numpy scalars, settings of a trainer. */
export const INERT = Symbol('inert')

export type Value =
  | null
  | boolean
  | number
  | bigint
  | string
  | typeof INERT
  | Value[]
  | Map<Value, Value>
  | Set<Value>
  | Global
  | Storage
  | PickledTensor
  | ParameterContainer

export function isStorage(value: Value): value is Storage {
  return typeof value === 'object' && value !== null && 'elements' in value && 'first' in value
}
