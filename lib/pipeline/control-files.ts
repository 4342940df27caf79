/** The files of load()'s `controlNets`: ControlNets, control-LoRAs, ControlLLLites and T2I-Adapters. */
import { throwIfAborted } from '../abort.js'
import type { Placement } from '../device/index.js'
import { openControlLllite, type ControlLlliteDescription } from '../models/control-lllite.js'
import { openControlLora } from '../models/control-lora.js'
import type { ModelDescription } from '../models/index.js'
import { openT2iAdapter, type T2iAdapterDescription } from '../models/t2i-adapter.js'
import { checkControlNet, ControlNet, describeControlNet, type ControlNetDescription } from './control-net.js'
import { ControlLllite } from './control-lllite.js'
import type { ControlModel } from './controls.js'
import { checkT2iAdapter, T2iAdapter } from './t2i-adapter.js'

/** A stored ControlNet, ControlLLLite or T2I-Adapter, with the path that load() was given. */
export type NamedControl = { path: string; source: ControlNetDescription['source'] } & (
  | { kind: 'controlNet'; description: ControlNetDescription }
  | { kind: 't2iAdapter'; description: T2iAdapterDescription }
  | { kind: 'controlLllite'; description: ControlLlliteDescription }
)

/**
 * Opens a file or folder, and refuses one that was made for another model.
 *
 * @param given how messages name it
 */
export async function openControl(
  given: string,
  path: string,
  model: ModelDescription & Required<Pick<ModelDescription, 'unet'>>,
  signal: AbortSignal | undefined,
): Promise<NamedControl> {
  throwIfAborted(signal)
  const t2iAdapter = await openT2iAdapter(path)
  if (t2iAdapter) {
    checkT2iAdapter(given, t2iAdapter, model)
    return { path: given, source: t2iAdapter.source, kind: 't2iAdapter', description: t2iAdapter }
  }
  const lllite = await openControlLllite(path, model)
  if (lllite) return { path: given, source: lllite.source, kind: 'controlLllite', description: lllite }
  const controlNet = (await openControlLora(path, model)) ?? (await describeControlNet(given, path))
  checkControlNet(given, controlNet, model)
  return { path: given, source: controlNet.source, kind: 'controlNet', description: controlNet }
}

export async function loadControl(
  control: NamedControl,
  placement: Placement,
  signal: AbortSignal | undefined,
): Promise<ControlModel> {
  switch (control.kind) {
    case 'controlNet':
      return ControlNet.from(control.description, placement, { signal })
    case 't2iAdapter':
      return T2iAdapter.from(control.description, placement, { signal })
    case 'controlLllite':
      return ControlLllite.from(control.description, placement, { signal })
  }
}
