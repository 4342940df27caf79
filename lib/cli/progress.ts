/** Progress on standard error: a bar with the remaining time on a terminal, plain lines elsewhere. */
import type { SingleBar } from 'cli-progress'

export interface Progress {
  /** Names the current phase, before or after the steps: 'Loading the model'. */
  phase(name: string): void
  /** Reports that `step` of `steps` is done; `label` names the image. */
  step(step: number, steps: number, label?: string): void
  /** Removes the bar from the terminal. */
  stop(): void
}

export interface TerminalStream extends NodeJS.WritableStream {
  isTTY?: boolean
}

export const silent: Progress = { phase() {}, step() {}, stop() {} }

export async function createProgress(stream: TerminalStream): Promise<Progress> {
  if (!stream.isTTY) return plainProgress(stream)
  const { default: progress } = await import('cli-progress')
  return barProgress(stream, (format) => {
    const options = {
      stream,
      format,
      clearOnComplete: true,
      hideCursor: true,
      fps: 4,
      linewrap: false,
      gracefulExit: false,
    }
    return new progress.SingleBar(options)
  })
}

/** Estimates the remaining time from the finished steps. It counts down during a step. */
export class Clock {
  #began = 0
  #last = 0
  #step = 0
  #steps = 0
  readonly #now: () => number

  constructor(now: () => number = () => performance.now()) {
    this.#now = now
    this.start()
  }

  start(): void {
    this.#began = this.#last = this.#now()
    this.#step = 0
  }

  done(step: number, steps: number): void {
    this.#step = step
    this.#steps = steps
    this.#last = this.#now()
  }

  /** The remaining time in seconds; undefined until a step is done. */
  left(): number | undefined {
    if (this.#step === 0) return undefined
    const each = (this.#last - this.#began) / this.#step
    const running = this.#now() - this.#last
    return Math.max(0, each * (this.#steps - this.#step) - running) / 1000
  }
}

/** '45 s', '3:05', '1:02:03'. */
export function formatSeconds(seconds: number): string {
  const whole = Math.ceil(seconds)
  if (whole < 100) return `${whole} s`
  const parts = [Math.trunc(whole / 3600), Math.trunc(whole / 60) % 60, whole % 60]
  if (parts[0] === 0) parts.shift()
  return parts.map((part, i) => (i === 0 ? String(part) : String(part).padStart(2, '0'))).join(':')
}

type Format = (
  options: unknown,
  params: { value: number; total: number },
  payload: { text?: string },
) => string

/** cli-progress handles the terminal and redraws four times a second, so that the remaining time counts down. */
function barProgress(stream: TerminalStream, createBar: (format: Format) => SingleBar): Progress {
  const clock = new Clock()
  let bar: SingleBar | undefined
  const format: Format = (_, { value, total }, { text }) => {
    if (total === 0) return `${text} …`
    const left = clock.left()
    const head = text ? `${text} ` : ''
    const tail = ` ${value}/${total}${left === undefined ? '' : `, ${formatSeconds(left)} left`}`
    return head + drawBar(value / total, columns(stream) - head.length - tail.length) + tail
  }
  const show = (value: number, total: number, text: string): void => {
    if (!bar) {
      bar = createBar(format)
      bar.start(total, value, { text })
    } else {
      bar.setTotal(total)
      bar.update(value, { text })
    }
  }
  return {
    phase(text) {
      clock.start()
      show(0, 0, text)
    },
    step(step, steps, label = '') {
      clock.done(step, steps)
      show(step, steps, label)
    },
    stop() {
      bar?.stop()
      bar = undefined
    },
  }
}

function columns(stream: TerminalStream): number {
  return Math.min((stream as NodeJS.WriteStream).columns || 80, 100)
}

function drawBar(done: number, room: number): string {
  const width = Math.max(0, Math.min(40, room - 1))
  const full = Math.round(done * width)
  return '█'.repeat(full) + '░'.repeat(width - full)
}

/** Prints a line for each phase and for each tenth of the steps, so that logs stay short. */
function plainProgress(stream: NodeJS.WritableStream): Progress {
  const clock = new Clock()
  return {
    phase(text) {
      clock.start()
      stream.write(`${text}\n`)
    },
    step(step, steps, label = '') {
      clock.done(step, steps)
      const tenth = (n: number): number => Math.trunc((n * 10) / steps)
      if (tenth(step) === tenth(step - 1)) return
      const left = step < steps ? `, ${formatSeconds(clock.left()!)} left` : ''
      stream.write(`${label && `${label} `}step ${step}/${steps}${left}\n`)
    },
    stop() {},
  }
}
