/** Every option of load() and generate(): defaults, bounds and interpretation. */
export type { AccelerationOptions, DeepCacheSetting } from './acceleration.js'
export { accelerationSettings, checkTokenMerging, inInterval } from './acceleration.js'
export type { ConditionOptions, Conditions } from './conditions.js'
export type { ControlFit, ControlOptions, ControlRequest, ControlTarget } from './controls.js'
export type { ControlType } from './control-types.js'
export { controlFits, controlSettings } from './controls.js'
export { defaults } from './defaults.js'
export { anyImages, enlargesImage, noisesImage, startsFromImage } from './extra-input.js'
export { guidesAt } from './guiding.js'
export { checkGenerateOptions, generateKeys, type GenerateOptions } from './generate.js'
export {
  countImages,
  imagePromptSettings,
  type ImagePromptOptions,
  type ImagePromptRequest,
  type IpAdapterFacts,
} from './image-prompts.js'
export { copyImage, maxSide, type ImageInput } from './images.js'
export {
  checkDevice,
  checkLoadOptions,
  checkLoras,
  checkKernels,
  checkPrecision,
  loadKeys,
  precisions,
  type LoadOptions,
  type LoraOption,
  type LoadRequest,
} from './load.js'
export {
  checkPreprocessor,
  type CheckedPreprocessor,
  type Colour,
  type PlainPreprocessor,
  type Preprocessor,
} from './preprocessors.js'
export type { GenerateRequest, ModelFacts } from './request.js'
export { bytesAllowed, checkTiling, type TilingOption } from './tiling.js'
export { presetOfFiles, presets, type Preset, type PresetName } from './presets.js'
