import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { DiffusionError } from '../errors.js'

/** The environment variables of Hugging Face's own programs. */

/** HF_HUB_CACHE, or `hub` in HF_HOME; by default ~/.cache/huggingface/hub. */
export function cacheFolder(env = process.env): string {
  const given = env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE
  if (given) return resolve(given)
  const home = env.HF_HOME || join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'huggingface')
  return resolve(home, 'hub')
}

/** Whether HF_HUB_OFFLINE asks for no network. */
export function isOffline(env = process.env): boolean {
  return /^(1|on|yes|true)$/i.test(env.HF_HUB_OFFLINE ?? '')
}

/** HF_ENDPOINT, a mirror of the Hub. */
export function endpoint(env = process.env): string | undefined {
  const given = env.HF_ENDPOINT?.replace(/\/+$/, '')
  if (!given) return undefined
  if (URL.canParse(given) && /^https?:/.test(given)) return given
  throw new DiffusionError('IO', 'Expected an http or https address in the environment variable HF_ENDPOINT')
}

/** HF_TOKEN, for models that ask for an account. */
export function accessToken(env = process.env): string | undefined {
  return env.HF_TOKEN || env.HUGGING_FACE_HUB_TOKEN || undefined
}
