import { native, type ModelConfigs, type RequiredTensor } from '../../native.js'
import { badFormat } from '../formats/fail.js'

/**
 * Every tensor that a component of this configuration is made from, by its canonical name. The engine lists them,
 * because the topology and the checks of the configuration are in its models.
 *
 * @param where the file that the configuration was read from, for messages
 * @throws {DiffusionError} MODEL_FORMAT: fields of the configuration contradict each other
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
