export { applyLora, unplacedWarning, type AdapterReport, type LoraSetting } from './lora.js'
