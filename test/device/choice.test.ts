/** `device` of load(): which device is taken, and what is said where none is there. */
import t from 'tap'
import { chooseKernels } from '../../lib/device/kernels.js'
import { AutoencoderTiny, DiffusionPipeline, VqModel } from '../../lib/index.js'
import { emulatedEnvironment, emulatorBuilt, emulatorExpected, inProcess, noDriver } from './emulated.js'

t.test('wrong values', async (t) => {
  for (const device of ['gpu', 'cuda:', 'cuda:x', 'CUDA', 'cuda:-1', '']) {
    await t.rejects(DiffusionPipeline.load(undefined, { device: device as 'cuda' }), {
      name: 'RangeError',
      message: /^Expected 'auto', 'cpu', 'cuda' or 'cuda:' and a number for device but received/,
    })
  }
  await t.rejects(VqModel.load(undefined, { device: 1 as never }), { name: 'TypeError' })
  await t.rejects(AutoencoderTiny.load('x', { device: 'tpu' as never }), { name: 'RangeError' })
  await t.rejects(DiffusionPipeline.load(undefined, { device: 'cuda', precision: 'f32' }), {
    name: 'TypeError',
    message: /^Expected 'auto' for precision, as device 'cuda' multiplies in half precision/,
  })
})

t.test('without a driver', async (t) => {
  const result = await inProcess(
    noDriver,
    `const begin = performance.now()
     const list = await nd.listDevices()
     const milliseconds = performance.now() - begin
     const code = await codeOf(nd.DiffusionPipeline.load(undefined, { device: 'cuda' }))
     const pipe = await nd.DiffusionPipeline.load()
     const cpu = await nd.DiffusionPipeline.load(undefined, { device: 'cpu' })
     return {
       list, milliseconds, code, device: pipe.device, reason: pipe.deviceReason, parts: [pipe.unet.device, pipe.vae.device],
       given: [cpu.device, cpu.deviceReason ?? null],
     }`,
  )
  t.match(result, {
    list: { devices: [{ device: 'cpu', name: String }], cudaUnavailable: /There is no NVIDIA driver/ },
    code: /^DEVICE_UNAVAILABLE: There is no NVIDIA driver on this machine .* Use device 'cpu', or install the driver\.$/,
    device: 'cpu',
    reason: /There is no NVIDIA driver/,
    parts: ['cpu', 'cpu'],
    given: ['cpu', null],
  })
})

t.test('which kernels a GPU takes', async (t) => {
  const names = ['75', '80', '86', '89', '90a', '120'].map((arch) => `sm_${arch}.cubin`)
  names.push('compute_90.ptx', 'README', 'sm_99.txt')
  for (const [capability, name] of [
    [75, 'sm_75.cubin'],
    [80, 'sm_80.cubin'],
    [87, 'sm_86.cubin'],
    [89, 'sm_89.cubin'],
    [90, 'sm_90a.cubin'],
    [100, 'compute_90.ptx'],
    [121, 'sm_120.cubin'],
    [70, undefined],
  ] as const) {
    t.equal(chooseKernels(names, capability), name, String(capability))
  }
})

t.test('an emulated GPU', { skip: !emulatorBuilt && !emulatorExpected }, async (t) => {
  const environment = emulatedEnvironment()
  const load = (options: object = {}) =>
    `const options = ${JSON.stringify(options)}
     try {
       const pipe = await nd.DiffusionPipeline.load(undefined, options)
       const taken = { device: pipe.device, reason: pipe.deviceReason ?? '' }
       await pipe.dispose()
       return taken
     } catch ({ code, message }) { return { code, message } }`
  t.match(await inProcess(environment, load()), { device: 'cuda:0', reason: '' }, 'auto takes it')
  t.match(await inProcess(environment, load({ device: 'cuda' })), { device: 'cuda:0' })
  t.match(await inProcess(environment, load({ precision: 'f32' })), {
    device: 'cpu',
    reason: /half precision, and precision 'f32' was given/,
  })
  const two = { ...environment, ND_EMULATED_DEVICES: '2' }
  t.match(await inProcess(two, load({ device: 'cuda:1' })), { device: 'cuda:1' })
  t.match(await inProcess(two, load({ device: 'cuda:2' })), {
    code: 'DEVICE_UNAVAILABLE',
    message: /^There is no device cuda:2, only cuda:0 \(Emulated GPU\), cuda:1 \(Emulated GPU\)$/,
  })
  for (const [variable, value, cuda, auto] of [
    [
      'ND_EMULATED_VERSION',
      '11080',
      /^The NVIDIA driver is too old: it supports CUDA 11.8, and CUDA 12.0/,
      /too old/,
    ],
    ['ND_EMULATED_DEVICES', '0', /^No NVIDIA GPU is visible to this process/, /No NVIDIA GPU/],
    ['ND_EMULATED_CAPABILITY', '61', /^Expected a GPU of compute capability 7\.5 .* but found 6\.1$/, /6\.1/],
  ] as const) {
    const changed = { ...environment, [variable]: value }
    t.match(await inProcess(changed, load({ device: 'cuda' })), { code: 'DEVICE_UNAVAILABLE', message: cuda })
    t.match(await inProcess(changed, load()), { device: 'cpu', reason: auto })
  }
  const small = { ...environment, ND_EMULATED_MEMORY_MB: '10' }
  t.match(await inProcess(small, load({ device: 'cuda' })), {
    code: 'OUT_OF_MEMORY',
    message: /Emulated GPU/,
  })
  t.match(await inProcess(small, load()), {
    device: 'cpu',
    reason: /^The model needs about .* of GPU memory, and Emulated GPU has 10\.0 MiB left$/,
  })
  const none = { ...environment, NODE_DIFFUSION_CUDA_KERNELS: '/no/such/folder' }
  t.match(await inProcess(none, load({ device: 'cuda' })), {
    code: 'DEVICE_UNAVAILABLE',
    message: /nothing there/,
  })
  const kernels = t.testdir({ 'kernels.br': 'no Brotli stream' })
  const damaged = { ...environment, NODE_DIFFUSION_CUDA_KERNELS: kernels }
  t.match(await inProcess(damaged, load({ device: 'cuda' })), {
    code: 'DEVICE_UNAVAILABLE',
    message: /kernels\.br \(Decompression failed\)/,
  })
})
