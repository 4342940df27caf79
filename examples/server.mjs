/**
 * A server that keeps one model in memory: `node examples/server.mjs`, then http://localhost:3000/?prompt=noto+pizza
 *
 * Requests are served in order. A client that disconnects leaves the queue, or aborts its run.
 */
import { createServer } from 'node:http'
import { DiffusionPipeline } from 'node-diffusion'

const pipe = await DiffusionPipeline.load(process.argv[2])
const maxWaiting = 20

async function answer(request, response) {
  const prompt = new URL(`http://localhost${request.url}`).searchParams.get('prompt')
  if (!prompt) return response.writeHead(400).end('prompt is missing\n')
  if (pipe.waiting >= maxWaiting) return response.writeHead(503, { 'retry-after': '30' }).end()
  const disconnected = new AbortController()
  response.on('close', () => disconnected.abort())
  const { images } = await pipe.generate({ prompt, signal: disconnected.signal })
  const png = await images[0].toBuffer('png')
  response.writeHead(200, { 'content-type': 'image/png' }).end(png)
}

const server = createServer((request, response) => {
  answer(request, response).catch((error) => {
    if (!response.destroyed) response.writeHead(500).end(`${error.message}\n`)
  })
})
server.listen(3000, () => console.log('http://localhost:3000/?prompt=noto+pizza'))

process.once('SIGTERM', () => {
  server.close()
  void pipe.dispose()
})
