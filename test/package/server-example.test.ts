/** examples/server.mjs with clients that send anything, hang up, or do not read. It imports the package, as built in dist/. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { packageRoot } from '../../lib/package-root.js'

const child = spawn(process.execPath, [join(packageRoot(), 'examples', 'server.mjs')], {
  env: { ...process.env, PORT: '0', HOST: '127.0.0.1' },
  stdio: ['ignore', 'pipe', 'pipe'],
})
let errors = ''
child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()))
const [line] = (await once(child.stdout, 'data')) as [Buffer]
const port = Number(/:(\d+)\//.exec(line.toString())![1])
t.teardown(() => child.kill('SIGKILL'))

/** Sends bytes and returns what comes until the server closes the connection, or for a while. */
async function raw(bytes: string | Buffer, patience = 120_000): Promise<string> {
  const socket: Socket = connect(port, '127.0.0.1')
  let answer = ''
  socket.on('data', (chunk: Buffer) => (answer += chunk.toString('latin1')))
  socket.on('error', () => {})
  socket.write(bytes)
  // Unlike once(), this does not reject when the connection is reset.
  const closed = new Promise((resolve) => socket.once('close', resolve))
  await Promise.race([closed, sleep(patience, undefined, { ref: false })])
  socket.destroy()
  return answer
}
const request = (target: string, method = 'GET') =>
  `${method} ${target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`
const alive = async (t: Test) =>
  t.match(await raw(request('/?prompt=noto+pizza')), /^HTTP\/1\.1 200 OK[^]*PNG/)

t.test('targets that are no URLs', async (t) => {
  for (const [target, status] of [
    ['//', 404],
    ['///?prompt=x', 404],
    ['*', 404],
    ['http://', 404],
    ['http://[::1/?prompt=x', 404],
    ['/%', 404],
    ['/?prompt=%', 200],
    ['/?prompt=%00%ff%1b[31m', 200],
    ['/?prompt', 400],
    ['/?', 400],
    ['/', 400],
    ['/favicon.ico', 404],
    ['/?prompt=a?b', 200],
    [`/?prompt=${'x'.repeat(9000)}`, 400],
  ] as const)
    t.match(await raw(request(target)), new RegExp(`^HTTP/1\\.1 ${status} `), target.slice(0, 60))
  t.match(await raw(request('*', 'OPTIONS')), /^HTTP\/1\.1 405 /)
  t.equal(await raw(request('x:443', 'CONNECT')), '')
  t.match(await raw('GET / HTTP/9.9\r\n\r\n\0'), /^HTTP\/1\.1 400 /)
  // The connection may be reset before the client has read the answer to more than the server wants to read.
  t.match(await raw(request(`/?prompt=${'x'.repeat(100_000)}`)), /^(HTTP\/1\.1 431 |$)/)
  t.match(await raw(Buffer.alloc(100_000, 255)), /^(HTTP\/1\.1 400 |$)/)
  await alive(t)
})

t.test('a body without an end', async (t) => {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  socket.write('POST /?prompt=x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n')
  const chunk = `10000\r\n${'a'.repeat(65536)}\r\n`
  let sent = 0
  const feed = () => {
    while (!socket.destroyed && sent < 1e9 && socket.write(chunk)) sent += chunk.length
  }
  socket.on('drain', feed)
  feed()
  let answer = ''
  socket.on('data', (data: Buffer) => (answer += data.toString()))
  await new Promise((closed) => socket.on('close', closed))
  // The connection may be reset before the client has read anything.
  t.match(answer, /^(HTTP\/1\.1 405 [^]*allow: GET[^]*)?$/)
  t.ok(sent < 1e9, `${sent} bytes were taken`)
  await alive(t)
})

t.test('clients that hang up at any moment', async (t) => {
  await Promise.all(
    Array.from({ length: 40 }, async (_, i) => {
      const socket = connect(port, '127.0.0.1')
      socket.on('error', () => {})
      socket.write(request('/?prompt=noto+pizza').slice(0, i % 4 === 0 ? 20 : undefined))
      await sleep(i * 15)
      if (i % 2) socket.resetAndDestroy()
      else socket.destroy()
    }),
  )
  await alive(t)
})

t.test('a full queue, and clients that do not read', async (t) => {
  const waiting = Array.from({ length: 30 }, () => raw(request('/?prompt=noto+pizza')))
  const answers = await Promise.all(waiting)
  t.ok(answers.some((answer) => answer.startsWith('HTTP/1.1 503 ') && /retry-after: 30/.test(answer)))
  t.ok(answers.every((answer) => /^HTTP\/1\.1 (200|503) /.test(answer)))
  const silent = connect(port, '127.0.0.1').pause()
  // The server may reset the connection of a client that does not read.
  silent.on('error', () => {})
  silent.write(request('/?prompt=noto+pizza'))
  await alive(t)
  silent.destroy()
})

t.test('SIGTERM ends it, with clients still connected', async (t) => {
  const silent = connect(port, '127.0.0.1').pause()
  silent.on('error', () => {})
  silent.write('GET / HTTP/1.1\r\nhost')
  const running = raw(request('/?prompt=noto+pizza'))
  await sleep(100)
  const ended = once(child, 'exit')
  child.kill('SIGTERM')
  t.same(await ended, [0, null])
  t.match(await running, /^(HTTP\/1\.1 (200|503) |$)/)
  t.equal(errors, '')
})
