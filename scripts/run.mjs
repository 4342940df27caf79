/** Running the programs of the tests. */
import { spawn } from 'node:child_process'
import { root } from './build-addon.mjs'

/** Runs a command, shows what it prints, in whole lines, and returns that with its exit status. */
export function run(command, args, env = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    child.stdout.setEncoding('utf8')
    let text = ''
    let shown = 0
    const show = (end) => {
      process.stdout.write(text.slice(shown, end))
      shown = end
    }
    child.stdout.on('data', (chunk) => {
      text += chunk
      show(Math.max(shown, text.lastIndexOf('\n') + 1))
    })
    child.on('error', reject)
    child.on('close', (status) => {
      show(text.length)
      resolve({ status, text })
    })
  })
}
