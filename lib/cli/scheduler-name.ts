/** Names of sampling methods as other programs spell them. */

/** Names that no rule turns into ours. */
const OTHERS: Record<string, string> = {
  'ddim-uniform': 'ddim',
  'dpm-2': 'dpm2',
  'dpm-2-a': 'dpm2-a',
  'dpm-2-ancestral': 'dpm2-a',
  'dpm2-ancestral': 'dpm2-a',
  'euler-ancestral': 'euler-a',
  'dpm++-2s-ancestral': 'dpm++-2s-a',
  'uni-pc': 'unipc',
}

/** `DPM++ 2M Karras`, `dpmpp_2m_karras`, `dpm++2m`, `k_euler_a`: as our names are written. */
export function usualSpelling(name: string): string {
  return name
    .slice(0, 100)
    .trim()
    .toLowerCase()
    .replace(/[\s_]+/g, '-')
    .replace(/^(?:k|sample)-/, '')
    .replace(/^dpmpp-?/, 'dpm++-')
    .replace(/^dpm\+\+(?=\d)/, 'dpm++-')
}

/** Our name for a sampling method, or undefined if there is none. */
export function schedulerName(name: string, names: readonly string[]): string | undefined {
  const usual = usualSpelling(name)
  const [, base, suffix] = /^(.*?)(-karras|-exponential|-beta)?$/s.exec(usual)!
  const other = Object.hasOwn(OTHERS, base) ? OTHERS[base] + (suffix ?? '') : undefined
  return [name, usual, other].find((candidate) => candidate !== undefined && names.includes(candidate))
}
