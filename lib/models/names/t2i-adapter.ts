import { renameTensors, type Tensors } from '../component.js'

/** Whether these are the tensors of a T2I-Adapter, in diffusers' or the original names. */
export function isT2iAdapter(tensors: Tensors): boolean {
  const has = (...names: string[]) =>
    names.some((name) => tensors.has(name) || tensors.has(`adapter.${name}`))
  return (
    has('body.0.block1.weight', 'body.0.resnets.0.block1.weight', 'body.0.body.0.block1.weight') &&
    has('conv_in.weight', 'body.0.in_conv.weight')
  )
}

/** Residual blocks of each feature in the original code, which counts those of all features. */
const BLOCKS = 2

/** Renames tensors to diffusers' names without their prefix. */
export function renameT2iAdapter(paths: readonly string[], tensors: Tensors): Tensors {
  return renameTensors(paths, tensors, (given) => {
    const name = given.replace(/^adapter\./, '')
    const light = /^body\.(\d{1,2})\.body\.(\d{1,2})\.(.+)$/.exec(name)
    if (light) return `body.${light[1]}.resnets.${light[2]}.${light[3]}`
    if (!tensors.has('body.0.block1.weight')) return name
    const full = /^body\.(\d{1,3})\.(.+)$/.exec(name)
    if (!full) return name
    const [number, part] = [Number(full[1]), full[2]]
    const level = `body.${Math.floor(number / BLOCKS)}`
    return part.startsWith('in_conv.') ? `${level}.${part}` : `${level}.resnets.${number % BLOCKS}.${part}`
  })
}
