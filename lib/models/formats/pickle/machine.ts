import { quote } from '../../../quote.js'
import { badFormat, unsupported } from '../fail.js'
import { TimeSlices } from '../time-slices.js'
import { findGlobal, showValue } from './globals.js'
import type { PickleInput } from './input.js'
import { readOpcode, type Operand } from './opcodes.js'
import { Global, INERT, ParameterContainer, PickledTensor, type CallContext, type Value } from './values.js'

/**
 * Runs the program of a pickle: a stack machine that in Python can call any function. This one creates plain values,
 * plain containers and tensors. Whatever a file contains, it reads no other files, and its time and memory are bounded
 * by the limits below, which are far above any real file.
 * https://github.com/python/cpython/blob/main/Lib/pickletools.py
 */

const MAX_STACK = 200_000
const MAX_MEMO = 1_000_000
/** Containers, strings, tensors. */
const MAX_OBJECTS = 500_000
/** Elements of all containers. */
const MAX_ELEMENTS = 1_000_000
const MAX_CHARACTERS = 16 << 20
/** Elements that one call may copy, so that no single operation takes long. */
const MAX_COPIED = 100_000

/** Operations between two looks at the clock. */
const SLICE_OPERATIONS = 512

export class PickleMachine implements CallContext {
  #stack: Value[] = []
  /** Heights of the stack at its open marks. */
  #marks: number[] = []
  readonly #memo: (Value | undefined)[] = []
  #objects = 0
  #elements = 0
  #characters = 0
  /** Position of the current operation. */
  #position = 0
  readonly #slices = new TimeSlices()

  /** @param load the storage of a persistent id */
  constructor(
    private readonly input: PickleInput,
    private readonly load: (id: Value[], context: CallContext) => Value,
  ) {}

  /** Runs one pickle up to its end. Limits hold for all pickles that this machine runs. */
  async run(): Promise<Value> {
    this.#stack = []
    this.#marks = []
    this.#memo.length = 0
    for (let i = 1; ; i++) {
      if (i % SLICE_OPERATIONS === 0) await this.#slices.pause()
      if (!this.input.has(1)) await this.input.fill(1)
      this.#position = this.input.position
      const operation = readOpcode(this.input)
      const { name, operand } = operation instanceof Promise ? await operation : operation
      if (name === 'STOP') return this.#end()
      this.#execute(name, operand)
      if (this.#stack.length > MAX_STACK) throw this.#limit('values on its stack', MAX_STACK)
    }
  }

  fail(message: string): Error {
    return badFormat(this.input.path, `pickle, byte ${this.#position}: ${message}`)
  }

  count(elements: number): void {
    if (elements > MAX_COPIED) throw this.#limit('elements in a call', MAX_COPIED)
    this.#hold(elements)
  }

  #limit(what: string, limit: number): Error {
    return this.fail(`expected at most ${limit} ${what}, found more`)
  }

  #hold(elements: number): void {
    this.#elements += elements
    if (this.#elements > MAX_ELEMENTS) throw this.#limit('elements in containers', MAX_ELEMENTS)
  }

  #end(): Value {
    if (this.#stack.length === 1 && this.#marks.length === 0) return this.#stack[0]
    throw this.fail(`expected one value at the end, found ${this.#stack.length}`)
  }

  #push(value: Value): void {
    this.#stack.push(value)
  }

  #pushObject(value: Value): void {
    if (++this.#objects > MAX_OBJECTS) throw this.#limit('objects', MAX_OBJECTS)
    this.#stack.push(value)
  }

  #pushText(text: string): void {
    this.#characters += text.length
    if (this.#characters > MAX_CHARACTERS) throw this.#limit('characters', MAX_CHARACTERS)
    this.#pushObject(text)
  }

  #pop(): Value {
    // Values below an open mark belong to its container.
    if (this.#stack.length <= (this.#marks.at(-1) ?? 0))
      throw this.fail('expected a value on the stack, found none')
    return this.#stack.pop()!
  }

  #top(): Value {
    const value = this.#pop()
    this.#stack.push(value)
    return value
  }

  /** Removes the values above the last mark. */
  #popMarked(): Value[] {
    const mark = this.#marks.pop()
    if (mark === undefined) throw this.fail('expected a mark on the stack, found none')
    return this.#stack.splice(mark)
  }

  #pushList(values: Value[]): void {
    this.#hold(values.length)
    this.#pushObject(values)
  }

  #pushTuple(length: number): void {
    const values: Value[] = []
    for (let i = 0; i < length; i++) values.unshift(this.#pop())
    this.#pushList(values)
  }

  #remember(index: number): void {
    const value = this.#top()
    if (index >= MAX_MEMO) throw this.#limit('remembered values', MAX_MEMO)
    // Optimized pickles have gaps.
    while (this.#memo.length < index) this.#memo.push(undefined)
    this.#memo[index] = value
  }

  #recall(index: number): void {
    const value = this.#memo[index]
    if (value === undefined) throw this.fail(`expected a value remembered as ${index}, found none`)
    this.#push(value)
  }

  #append(values: Value[]): void {
    const target = this.#top()
    if (target === INERT) return
    this.#hold(values.length)
    if (Array.isArray(target)) for (const value of values) target.push(value)
    else if (target instanceof Set) for (const value of values) target.add(value)
    else throw this.fail(`expected a list to append to, found ${showValue(target)}`)
  }

  #setItems(pairs: Value[]): void {
    const target = this.#top()
    if (target === INERT) return
    if (!(target instanceof Map)) throw this.fail(`expected a dictionary to fill, found ${showValue(target)}`)
    if (pairs.length % 2 !== 0) throw this.fail('expected a value for each key of a dictionary')
    this.#hold(pairs.length / 2)
    for (let i = 0; i < pairs.length; i += 2) target.set(pairs[i], pairs[i + 1])
  }

  #findGlobal(module: Value, name: Value): Global {
    if (typeof module !== 'string' || typeof name !== 'string')
      throw this.fail('expected the names of a module and an object')
    const found = findGlobal(module, name)
    if (found) return found
    throw unsupported(
      this.input.path,
      `this pickle uses the Python object ${quote(`${module}.${name}`, 60)}, which is refused: only tensors and ` +
        'plain containers are read from pickles, and no code is run. Use the model as a .safetensors file',
    )
  }

  #call(callee: Value, args: Value): void {
    if (callee === INERT) return this.#push(INERT)
    if (!(callee instanceof Global) || !callee.call)
      throw this.fail(`expected a function that creates a tensor or a container, found ${showValue(callee)}`)
    if (!Array.isArray(args))
      throw this.fail(`expected the arguments of ${callee.name}, found ${showValue(args)}`)
    this.#pushObject(callee.call(args, this))
  }

  /** Gives an object its state. Only that of a container of parameters has a meaning. */
  #build(): void {
    const state = this.#pop()
    const target = this.#top()
    if (target instanceof ParameterContainer) target.state = state
    else if (!(target instanceof Map || target instanceof PickledTensor || target === INERT))
      throw this.fail(`expected an object with a state, found ${showValue(target)}`)
  }

  #execute(name: string, operand: Operand): void {
    switch (name) {
      case 'PROTO':
        if ((operand as number) <= 5) return
        throw this.fail(`expected protocol 5 or less, found ${String(operand)}`)
      case 'FRAME':
        return
      case 'VALUE':
        return this.#push(operand)
      case 'TEXT':
        return this.#pushText(operand as string)
      case 'BYTES':
        return this.#push(INERT)
      case 'MARK':
        this.#marks.push(this.#stack.length)
        // An open mark takes as much memory as a value.
        if (this.#marks.length > MAX_STACK) throw this.#limit('marks', MAX_STACK)
        return
      case 'POP':
        if (this.#marks.at(-1) === this.#stack.length) this.#marks.pop()
        else this.#pop()
        return
      case 'POP_MARK':
        this.#popMarked()
        return
      case 'DUP':
        return this.#push(this.#top())
      case 'GET':
        return this.#recall(operand as number)
      case 'PUT':
        return this.#remember(operand as number)
      case 'MEMOIZE':
        return this.#remember(this.#memo.length)
      case 'EMPTY_LIST':
        return this.#pushObject([])
      case 'EMPTY_DICT':
        return this.#pushObject(new Map())
      case 'EMPTY_SET':
        return this.#pushObject(new Set())
      case 'TUPLE_N':
        return this.#pushTuple(operand as number)
      case 'TUPLE':
      case 'LIST':
        return this.#pushList(this.#popMarked())
      case 'DICT': {
        const pairs = this.#popMarked()
        this.#pushObject(new Map())
        return this.#setItems(pairs)
      }
      case 'FROZENSET': {
        const values = this.#popMarked()
        this.#pushObject(new Set())
        return this.#append(values)
      }
      case 'APPEND':
        return this.#append([this.#pop()])
      case 'APPENDS':
      case 'ADDITEMS':
        return this.#append(this.#popMarked())
      case 'SETITEM': {
        const value = this.#pop()
        return this.#setItems([this.#pop(), value])
      }
      case 'SETITEMS':
        return this.#setItems(this.#popMarked())
      case 'GLOBAL': {
        const [module, object] = operand as [string, string]
        return this.#pushObject(this.#findGlobal(module, object))
      }
      case 'STACK_GLOBAL': {
        const object = this.#pop()
        return this.#pushObject(this.#findGlobal(this.#pop(), object))
      }
      case 'INST': {
        const [module, object] = operand as [string, string]
        return this.#call(this.#findGlobal(module, object), this.#popMarked())
      }
      case 'OBJ': {
        const [callee = null, ...args] = this.#popMarked()
        return this.#call(callee, args)
      }
      case 'REDUCE':
      case 'NEWOBJ': {
        const args = this.#pop()
        return this.#call(this.#pop(), args)
      }
      case 'NEWOBJ_EX': {
        this.#pop()
        const args = this.#pop()
        return this.#call(this.#pop(), args)
      }
      case 'BUILD':
        return this.#build()
      case 'BINPERSID': {
        const id = this.#pop()
        if (!Array.isArray(id)) throw this.fail(`expected the id of a storage, found ${showValue(id)}`)
        return this.#pushObject(this.load(id, this))
      }
      default:
        throw this.fail(`operation ${name} is not used by torch.save() and not supported`)
    }
  }
}
