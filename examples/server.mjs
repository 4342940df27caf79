/**
 * A server that keeps one model in memory: `node examples/server.mjs`, then http://localhost:3000/?prompt=noto+pizza
 *
 * Requests are served in order. A client that disconnects leaves the queue, or aborts its run. `PORT` and `HOST` in the
 * environment choose another address.
 */
import { createServer } from 'node:http'
import { DiffusionError, DiffusionPipeline } from 'node-diffusion'

const pipe = await DiffusionPipeline.load(process.argv[2])
const maxWaiting = 20
/** Milliseconds that a client may take to read an image. */
const patience = 30_000

function send(response, status, message, headers) {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', ...headers }).end(`${message}\n`)
}

async function answer(request, response) {
  if (request.method !== 'GET') {
    // The body, of any size, is not read.
    return send(response, 405, 'only GET is allowed', { allow: 'GET', connection: 'close' })
  }
  // A path may be anything: `//`, `*`, another host. None of it is needed but what follows the question mark.
  const [path, query = ''] = request.url.split(/\?(.*)/s)
  if (path !== '/') return send(response, 404, 'there is nothing here')
  const prompt = new URLSearchParams(query).get('prompt')
  if (!prompt) return send(response, 400, 'prompt is missing')
  if (pipe.waiting >= maxWaiting) return send(response, 503, 'too many requests', { 'retry-after': '30' })
  const disconnected = new AbortController()
  response.on('close', () => disconnected.abort())
  const { images } = await pipe.generate({ prompt, signal: disconnected.signal })
  const png = await images[0].toBuffer('png')
  response.setTimeout(patience, () => response.destroy())
  response.writeHead(200, { 'content-type': 'image/png' }).end(png)
}

function fail(response, error) {
  if (response.destroyed) return
  if (response.headersSent) return response.destroy()
  // The library throws these for options that it does not accept: here, that is the prompt.
  const wrongRequest = error instanceof TypeError || error instanceof RangeError
  const closing = error instanceof DiffusionError && error.code === 'DISPOSED'
  send(response, wrongRequest ? 400 : closing ? 503 : 500, error.message)
}

const server = createServer((request, response) => {
  answer(request, response).catch((error) => fail(response, error))
})
server.listen(process.env.PORT ?? 3000, process.env.HOST ?? 'localhost', () => {
  console.log(`http://localhost:${server.address().port}/?prompt=noto+pizza`)
})

async function shutDown() {
  server.close()
  await pipe.dispose()
  server.closeAllConnections()
}
process.once('SIGTERM', () => void shutDown())
