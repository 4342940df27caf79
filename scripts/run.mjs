/** Running the programs of the tests. */
import { spawn } from 'node:child_process'
import { root } from './build-addon.mjs'

/** Runs a command, shows what it prints and returns that with its exit status. */
export function run(command, args, env = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let text = ''
    child.stdout.on('data', (chunk) => {
      process.stdout.write(chunk)
      text += chunk
    })
    child.on('error', reject)
    child.on('close', (status) => resolve({ status, text }))
  })
}
