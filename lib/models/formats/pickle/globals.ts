import { quote, show } from '../../../quote.js'
import { countElements } from '../tensor-file.js'
import {
  Global,
  INERT,
  isStorage,
  ParameterContainer,
  PickledTensor,
  type CallContext,
  type ElementType,
  type Value,
} from './values.js'

/**
 * The Python objects that a pickle may name. Everything else is refused, whether it is called or not. None of them is
 * Python's: each is a function here that creates a tensor or a plain container, or a value without meaning.
 */

const MAX_RANK = 8

const element = (name: string, bytes: number): ElementType => ({ name, bytes })

/** torch's storage classes, before `Storage`. */
const STORAGES: Readonly<Record<string, ElementType>> = {
  Float: element('f32', 4),
  Double: element('f64', 8),
  Half: element('f16', 2),
  BFloat16: element('bf16', 2),
  Long: element('i64', 8),
  Int: element('i32', 4),
  Short: element('i16', 2),
  Char: element('i8', 1),
  Byte: element('u8', 1),
  Bool: element('bool', 1),
  ComplexFloat: element('c64', 8),
  ComplexDouble: element('c128', 16),
}

/** torch's dtypes, as files of untyped storages name them. */
const DTYPES: Readonly<Record<string, ElementType>> = {
  float32: STORAGES.Float,
  float64: STORAGES.Double,
  float16: STORAGES.Half,
  bfloat16: STORAGES.BFloat16,
  int64: STORAGES.Long,
  int32: STORAGES.Int,
  int16: STORAGES.Short,
  int8: STORAGES.Char,
  uint8: STORAGES.Byte,
  uint16: element('u16', 2),
  uint32: element('u32', 4),
  uint64: element('u64', 8),
  bool: STORAGES.Bool,
  complex64: STORAGES.ComplexFloat,
  complex128: STORAGES.ComplexDouble,
  float8_e4m3fn: element('f8_e4m3', 1),
  float8_e5m2: element('f8_e5m2', 1),
  float8_e4m3fnuz: element('f8_e4m3fnuz', 1),
  float8_e5m2fnuz: element('f8_e5m2fnuz', 1),
  float8_e8m0fnu: element('f8_e8m0', 1),
}

const UNTYPED = element('u8', 1)

/** A tensor of these arguments: storage, offset, shape, strides, …; `type` differs from the storage's if it is untyped. */
function rebuild(args: Value[], context: CallContext, type?: ElementType): PickledTensor {
  const [storage, offset, shape, strides] = args
  if (!isStorage(storage)) throw context.fail('expected a storage as the first argument of a tensor')
  if (!isIndex(offset)) throw context.fail(`expected the offset of a tensor, found ${showValue(offset)}`)
  if (!isIndexList(shape) || shape.length > MAX_RANK)
    throw context.fail(`expected the shape of a tensor, found ${showValue(shape)}`)
  if (!isIndexList(strides) || strides.length !== shape.length)
    throw context.fail(`expected ${shape.length} strides of a tensor, found ${showValue(strides)}`)
  if (type && storage.first > 0) throw context.fail('expected an untyped storage that is not a view')
  const elementType = type ?? storage.type
  const count = countElements(shape)
  if (count === undefined) throw context.fail(`expected a shape whose bytes can be counted, found [${shape}]`)
  const available = Math.floor((storage.elements * storage.type.bytes) / elementType.bytes) - storage.first
  const last = shape.reduce((sum, length, i) => sum + (length - 1) * strides[i], offset)
  if (count > 0 && !(last < available)) {
    throw context.fail(
      `expected a tensor of shape [${shape}] within the ${available} elements of its storage, found element ${last}`,
    )
  }
  return new PickledTensor(storage, elementType, storage.first + offset, shape.slice(), strides.slice())
}

function rebuildUntyped(args: Value[], context: CallContext): PickledTensor {
  const dtype = args[6]
  if (!(dtype instanceof Global) || !dtype.element)
    throw context.fail(`expected the dtype of a tensor, found ${showValue(dtype)}`)
  return rebuild(args, context, dtype.element)
}

function firstTensor(args: Value[], context: CallContext): Value {
  if (args[0] instanceof PickledTensor) return args[0]
  throw context.fail(`expected a tensor for a parameter, found ${showValue(args[0])}`)
}

/** torch._tensor._rebuild_from_type_v2(function, type, args, state), for subclasses such as Parameter. */
function rebuildFromType([rebuilder, , args]: Value[], context: CallContext): Value {
  const known = rebuilder instanceof Global && rebuilder.call !== undefined
  if (known && /^torch\._utils\._rebuild_/.test(rebuilder.name) && Array.isArray(args))
    return rebuilder.call(args, context)
  throw context.fail(`expected a function that rebuilds a tensor, found ${showValue(rebuilder)}`)
}

function elements(value: Value | undefined, context: CallContext): Value[] {
  if (value === undefined) return []
  if (!Array.isArray(value) && !(value instanceof Set))
    throw context.fail(`expected a list of elements, found ${showValue(value)}`)
  context.count(Array.isArray(value) ? value.length : value.size)
  return [...value]
}

function dictionary([value]: (Value | undefined)[], context: CallContext): Map<Value, Value> {
  if (value instanceof Map) {
    context.count(value.size)
    return new Map(value)
  }
  return new Map(
    elements(value, context).map((pair) => {
      if (Array.isArray(pair) && pair.length === 2) return pair as [Value, Value]
      throw context.fail(`expected a pair of a dictionary, found ${showValue(pair)}`)
    }),
  )
}

const list = ([value]: Value[], context: CallContext) => elements(value, context)
const set = ([value]: Value[], context: CallContext) => new Set(elements(value, context))
const container = () => new ParameterContainer()
const inert = (): Value => INERT

const FUNCTIONS: Readonly<Record<string, Global['call']>> = {
  'torch._utils._rebuild_tensor': (args, context) => rebuild(args, context),
  'torch._utils._rebuild_tensor_v2': (args, context) => rebuild(args, context),
  'torch._utils._rebuild_tensor_v3': rebuildUntyped,
  'torch._utils._rebuild_parameter': firstTensor,
  'torch._utils._rebuild_parameter_with_state': firstTensor,
  'torch._tensor._rebuild_from_type_v2': rebuildFromType,
  'torch.nn.parameter.Parameter': firstTensor,
  'torch.Tensor': undefined,
  'torch.Size': list,
  'torch.device': inert,
  'torch.nn.modules.container.ParameterDict': container,
  'torch.nn.modules.container.ParameterList': container,
  'collections.OrderedDict': dictionary,
  'collections.Counter': dictionary,
  // Its first argument makes default values, which nothing here asks for.
  'collections.defaultdict': ([, value], context) => dictionary([value], context),
  'builtins.dict': dictionary,
  'builtins.list': list,
  'builtins.tuple': list,
  'builtins.set': set,
  'builtins.frozenset': set,
  'builtins.int': undefined,
  'builtins.bytearray': inert,
  // Byte strings in pickles of protocol 2.
  '_codecs.encode': inert,
  // Settings that PyTorch Lightning stores beside the weights, as the original Stable Diffusion files have them.
  'pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint': inert,
  'pytorch_lightning.callbacks.early_stopping.EarlyStopping': inert,
  'lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint': inert,
  // Numbers of numpy, such as a loss.
  'numpy.core.multiarray.scalar': inert,
  'numpy._core.multiarray.scalar': inert,
  'numpy.dtype': inert,
}

/** Python 2's names of modules, which pickles of protocol 2 use. */
const OLD_MODULES: Readonly<Record<string, string>> = { __builtin__: 'builtins', UserDict: 'collections' }

/** The object that a pickle names; undefined if it is not allowed. */
export function findGlobal(module: string, name: string): Global | undefined {
  const full = `${OLD_MODULES[module] ?? module}.${name}`
  if (Object.hasOwn(FUNCTIONS, full)) return new Global(full, FUNCTIONS[full])
  if (full === 'torch.storage.UntypedStorage' || full === 'torch.UntypedStorage')
    return new Global(full, undefined, UNTYPED)
  if (module === 'torch' || module === 'torch.cuda') {
    const storage = /^(\w+)Storage$/.exec(name)?.[1]
    if (storage !== undefined && Object.hasOwn(STORAGES, storage))
      return new Global(full, undefined, STORAGES[storage])
    if (Object.hasOwn(DTYPES, name)) return new Global(full, undefined, DTYPES[name])
  }
  return undefined
}

export function isIndex(value: Value | undefined): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}

function isIndexList(value: Value | undefined): value is number[] {
  return Array.isArray(value) && value.every((v) => isIndex(v))
}

/** A value for messages. */
export function showValue(value: Value | undefined): string {
  if (value instanceof Global) return quote(value.name, 60)
  if (value instanceof PickledTensor) return 'a tensor'
  if (value instanceof Map) return `a dictionary of ${value.size}`
  if (value instanceof Set) return `a set of ${value.size}`
  if (Array.isArray(value) && value.length > 8) return `a list of ${value.length}`
  if (Array.isArray(value))
    return `[${value.map((v) => (typeof v === 'object' && v !== null ? '…' : showValue(v))).join()}]`
  if (typeof value === 'object' && value !== null) return 'an object'
  return typeof value === 'symbol' || typeof value === 'bigint' ? 'another value' : show(value)
}
