/** The start of a program without a GPU: the driver's library is opened when a device is asked for, and never before. */
import t from 'tap'
import { emulatedEnvironment, emulatorBuilt, emulatorExpected, inProcess } from './emulated.js'

// The emulator takes the driver's place: where it is opened, it is among the process's mappings.
t.test('when the driver is opened', { skip: !emulatorBuilt && !emulatorExpected }, async (t) => {
  const body = `
    const { readFileSync } = await import('node:fs')
    const opened = () => readFileSync('/proc/self/maps', 'latin1').includes('libcuda')
    const at = { import: opened() }
    await nd.openModel(nd.bundledModelPath())
    at.openModel = opened()
    await nd.DiffusionPipeline.estimate(undefined, {})
    at.estimate = opened()
    const pipe = await nd.DiffusionPipeline.load(undefined, { device: 'cpu' })
    await pipe.generate({ prompt: 'a', steps: 1, outputType: 'latents' })
    await pipe.dispose()
    at.cpu = opened()
    await nd.listDevices()
    return { ...at, listDevices: opened() }`
  t.strictSame(await inProcess(emulatedEnvironment(), body), {
    import: false,
    openModel: false,
    estimate: false,
    cpu: false,
    listDevices: true,
  })
})

t.test('no library of CUDA is needed by the addon', { skip: process.platform !== 'linux' }, async (t) => {
  // What the linker has loaded with the addon, with no driver to find.
  const maps = (await inProcess(
    { NODE_DIFFUSION_CUDA_DRIVER: 'none' },
    `nd.cpuInfo()
     const { readFileSync } = await import('node:fs')
     return readFileSync('/proc/self/maps', 'latin1').split('\\n').map((line) => line.slice(73)).filter((x) => x.startsWith('/'))`,
  )) as string[]
  t.ok(
    maps.some((file) => file.endsWith('.node')),
    'the addon is loaded',
  )
  t.strictSame(
    maps.filter((file) => /cuda|cudart|cublas|cudnn|nvrtc|nvidia/i.test(file.slice(file.lastIndexOf('/')))),
    [],
  )
})
