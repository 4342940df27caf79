/**
 * Number of state words, and the distance between the two words that are mixed (Matsumoto & Nishimura 1998, table II).
 */
const WORDS = 624
const SHIFT = 397

/** The Mersenne Twister MT19937 with its 2002 initialization: the engine of torch's CPU generators. */
export class Mt19937 {
  private readonly state = new Uint32Array(WORDS)
  private next = WORDS

  /** As in torch, only the low 32 bits of the seed count. */
  constructor(seed: number) {
    const state = this.state
    state[0] = seed
    for (let j = 1; j < WORDS; j++) {
      const previous = state[j - 1]
      state[j] = Math.imul(1812433253, previous ^ (previous >>> 30)) + j
    }
  }

  /** The next 32 random bits, as an unsigned integer. */
  uint32(): number {
    if (this.next === WORDS) this.refill()
    let y = this.state[this.next++]
    y ^= y >>> 11
    y ^= (y << 7) & 0x9d2c5680
    y ^= (y << 15) & 0xefc60000
    y ^= y >>> 18
    return y >>> 0
  }

  private refill(): void {
    const state = this.state
    for (let j = 0; j < WORDS; j++) {
      const bits = (state[j] & 0x80000000) | (state[(j + 1) % WORDS] & 0x7fffffff)
      state[j] = state[(j + SHIFT) % WORDS] ^ (bits >>> 1) ^ (bits & 1 ? 0x9908b0df : 0)
    }
    this.next = 0
  }
}
