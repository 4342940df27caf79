/** Child processes: each case is measured in one of its own, so that no case sees the memory and caches of another. */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'

/** Peak resident set size of this process so far, in bytes. */
export function peakRss() {
  try {
    const line = /VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))
    if (line) return Number(line[1]) * 1024
  } catch {
    // There is no /proc here; getrusage reports the same.
  }
  return process.resourceUsage().maxRSS * 1024
}

/**
 * Runs a command and parses the JSON lines on its standard output. Its standard error passes through.
 * @returns {Promise<{ rows: any[], seconds: number, status: number | null, signal: string | null }>} `seconds` is the
 * time from start to exit
 */
export function runJson(command, args, env = {}) {
  return new Promise((resolve, reject) => {
    const began = performance.now()
    const child = spawn(command, args, {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let text = ''
    child.stdout.setEncoding('utf8').on('data', (chunk) => (text += chunk))
    child.on('error', reject)
    child.on('close', (status, signal) => {
      const seconds = (performance.now() - began) / 1000
      const rows = []
      try {
        for (const line of text.split('\n')) if (line.startsWith('{')) rows.push(JSON.parse(line))
      } catch (error) {
        reject(error)
      }
      resolve({ rows, seconds, status, signal })
    })
  })
}
