import { show } from '../../quote.js'
import { parseJson, type JsonOptions } from '../formats/json.js'
import { readExactly, withFile } from '../formats/tensor-file.js'
import { badFormat, unsupported } from '../formats/fail.js'

/** Maximum size of a configuration. */
const MAX_CONFIG = 4 << 20

/** Reads a file of at most `limit` bytes. */
export function readBytes(path: string, limit: number): Promise<Buffer> {
  return withFile(path, async (file, size) => {
    if (size > limit) throw badFormat(path, `expected at most ${limit} bytes, found ${size}`)
    return readExactly(path, file, 0, size)
  })
}

/** Reads a text file of at most `limit` bytes. */
export async function readText(path: string, limit: number): Promise<string> {
  const bytes = await readBytes(path, limit)
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (error) {
    throw badFormat(path, 'expected text in UTF-8, found other bytes', error)
  }
}

/** Reads and checks the fields of a JSON object. Errors name the file and the dotted path of the field. */
export class ConfigReader {
  private constructor(
    readonly path: string,
    private readonly object: Record<string, unknown>,
    private readonly prefix: string,
  ) {}

  static async read(path: string, options: JsonOptions & { limit?: number } = {}): Promise<ConfigReader> {
    const bytes = await readBytes(path, options.limit ?? MAX_CONFIG)
    // diffusers writes "lambda_min_clipped": -Infinity, for example.
    return ConfigReader.of(path, await parseJson(path, bytes, { nonFinite: true, ...options }), '')
  }

  /** `what` names the text in messages. */
  static async parse(path: string, text: string, what: string): Promise<ConfigReader> {
    return ConfigReader.of(path, await parseJson(path, Buffer.from(text), { what }), what)
  }

  static of(path: string, value: unknown, prefix: string): ConfigReader {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw badFormat(path, `expected a JSON object${prefix && ` for ${prefix}`}, found ${show(value)}`)
    }
    return new ConfigReader(path, value as Record<string, unknown>, prefix)
  }

  /** The unchecked value of a field; undefined if it is missing. */
  get(key: string): unknown {
    return Object.hasOwn(this.object, key) ? this.object[key] : undefined
  }

  /** Whether the field has a value other than null. */
  has(key: string): boolean {
    return this.get(key) !== undefined && this.get(key) !== null
  }

  keys(): string[] {
    return Object.keys(this.object)
  }

  name(key: string): string {
    return this.prefix ? `${this.prefix}.${key}` : key
  }

  child(key: string): ConfigReader {
    return ConfigReader.of(this.path, this.get(key), this.name(key))
  }

  fail(key: string, expected: string): Error {
    return badFormat(
      this.path,
      `expected ${expected} for ${this.name(key)} but received ${show(this.get(key))}`,
    )
  }

  /** An error for a value of a model that the engine cannot run. */
  refuse(key: string, supported: string): Error {
    return unsupported(
      this.path,
      `expected ${supported} for ${this.name(key)} but received ${show(this.get(key))}`,
    )
  }

  private absent(key: string): boolean {
    return this.get(key) === undefined
  }

  integer(key: string, fallback: number | undefined, min: number, max: number): number {
    if (this.absent(key) && fallback !== undefined) return fallback
    const value = this.get(key)
    if (isInteger(value, min, max)) return value
    throw this.fail(key, `integer between ${min} and ${max}`)
  }

  number(key: string, fallback: number | undefined, min: number, max: number): number {
    if (this.absent(key) && fallback !== undefined) return fallback
    const value = this.get(key)
    if (typeof value === 'number' && value >= min && value <= max) return value
    throw this.fail(key, `number between ${min} and ${max}`)
  }

  boolean(key: string, fallback?: boolean): boolean {
    if (this.absent(key) && fallback !== undefined) return fallback
    const value = this.get(key)
    if (typeof value === 'boolean') return value
    throw this.fail(key, 'true or false')
  }

  string(key: string, fallback?: string): string {
    if (this.absent(key) && fallback !== undefined) return fallback
    const value = this.get(key)
    if (typeof value === 'string') return value
    throw this.fail(key, 'string')
  }

  /** One of `values`; the engine does not support any other. */
  choice<T extends string>(key: string, values: readonly T[], fallback?: T): T {
    const value = this.string(key, fallback)
    if (values.includes(value as T)) return value as T
    throw this.refuse(key, values.length === 1 ? show(values[0]) : `one of ${values.map(show).join(', ')}`)
  }

  strings(key: string, fallback: string[]): string[] {
    if (this.absent(key)) return fallback
    const value = this.get(key)
    if (Array.isArray(value) && value.every((v) => typeof v === 'string')) return value
    throw this.fail(key, 'list of strings')
  }

  integers(key: string, fallback: number[] | undefined, min: number, max: number, length?: number): number[] {
    if (this.absent(key) && fallback !== undefined) return fallback
    const value = this.get(key)
    if (Array.isArray(value) && value.every((v) => isInteger(v, min, max))) {
      if (length === undefined ? value.length > 0 : value.length === length) return value
    }
    throw this.fail(key, `list of ${length ?? 'one or more'} integers between ${min} and ${max}`)
  }

  numbers(key: string, min: number, max: number, fewest: number, most: number): number[] {
    const value = this.get(key)
    const fits = (v: unknown): v is number => typeof v === 'number' && v >= min && v <= max
    if (Array.isArray(value) && value.every(fits)) {
      if (value.length >= fewest && value.length <= most) return value
    }
    const length = fewest === most ? most : `${fewest} to ${most}`
    throw this.fail(key, `list of ${length} numbers between ${min} and ${max}`)
  }

  /** One number for all levels, or a list with one for each level. */
  integerPerLevel(key: string, fallback: number, min: number, max: number, levels: number): number[] {
    if (this.absent(key) || typeof this.get(key) === 'number') {
      return new Array<number>(levels).fill(this.integer(key, fallback, min, max))
    }
    return this.integers(key, undefined, min, max, levels)
  }
}

export function isInteger(value: unknown, min: number, max: number): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max
}
