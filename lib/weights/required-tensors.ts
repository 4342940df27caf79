import { native, type ModelConfigs, type RequiredTensor } from '../native.js'
import { badFormat } from './fail.js'

/**
 * Every tensor that a component of this configuration is made from, under its canonical name. The engine lists them: it
 * alone knows the topology, and whether the configuration fits together.
 *
 * @param where the file that the configuration was read from, for messages
 * @throws DiffusionError MODEL_FORMAT: fields that do not fit together
 */
export function requiredTensors<Kind extends keyof ModelConfigs>(
  where: string,
  kind: Kind,
  config: ModelConfigs[Kind],
): RequiredTensor[] {
  try {
    return native().requiredTensors(kind, config)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    throw badFormat(where, error.message.replace(/^Expected/, 'expected'), error)
  }
}
