import { join, resolve } from 'node:path'
import type { T2iAdapterConfig } from '../native.js'
import { insideCache } from './cache-folder.js'
import { matchTensors } from './component.js'
import { ConfigReader } from './families/config-reader.js'
import { requiredTensors } from './families/required-tensors.js'
import { deriveT2iAdapter, t2iAdapterConfig } from './families/t2i-adapter.js'
import { readWeights } from './formats/weight-files.js'
import { openTensorFile } from './index.js'
import type { ComponentDescription } from './model-description.js'
import { isT2iAdapter, renameT2iAdapter } from './names/t2i-adapter.js'
import { isFile, isFolder } from './tokenizer-files.js'

/** A stored T2I-Adapter. */
export type T2iAdapterDescription = ComponentDescription<T2iAdapterConfig>

/**
 * Describes a T2I-Adapter: diffusers' folder, or a file with diffusers' or the original names.
 *
 * @returns undefined if it is something else
 * @throws {DiffusionError} MODEL_NOT_FOUND, MODEL_FORMAT, MODEL_SHAPE, UNSUPPORTED_MODEL, IO
 */
export async function openT2iAdapter(path: string): Promise<T2iAdapterDescription | undefined> {
  const description = (await isFolder(path))
    ? await describeAdapterFolder(await insideCache(path))
    : await describeAdapterFile(path)
  if (description) description.source.files = description.source.files.map((file) => resolve(file))
  return description
}

async function describeAdapterFolder(folder: string): Promise<T2iAdapterDescription | undefined> {
  const configPath = join(folder, 'config.json')
  if (!(await isFile(configPath))) return undefined
  const config = await ConfigReader.read(configPath)
  if (config.get('_class_name') !== 'T2IAdapter') return undefined
  const parsed = t2iAdapterConfig(config)
  const { files, tensors } = await readWeights(folder)
  const renamed = renameT2iAdapter(
    files.map((file) => file.path),
    tensors,
  )
  const required = requiredTensors(configPath, 't2iAdapter', parsed)
  return { config: parsed, source: matchTensors(folder, files, renamed, required, false) }
}

async function describeAdapterFile(path: string): Promise<T2iAdapterDescription | undefined> {
  const file = await openTensorFile(path)
  if (!isT2iAdapter(file.tensors)) return undefined
  const tensors = renameT2iAdapter([path], file.tensors)
  const config = deriveT2iAdapter(path, tensors)
  const required = requiredTensors(path, 't2iAdapter', config)
  return { config, source: matchTensors(path, [file], tensors, required, true) }
}
