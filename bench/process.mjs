/** Child processes that measure: one case each, so that neither memory nor caches leak from one into another. */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'

/** Highest resident size of this process so far, in bytes. */
export function peakRss() {
  try {
    const line = /VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))
    if (line) return Number(line[1]) * 1024
  } catch {
    // No /proc: getrusage says the same.
  }
  return process.resourceUsage().maxRSS * 1024
}

/**
 * Runs a command and parses the JSON lines on its standard output; its errors pass through.
 * @returns {Promise<{ rows: any[], seconds: number, status: number | null, signal: string | null }>} `seconds` from start
 * to exit
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
