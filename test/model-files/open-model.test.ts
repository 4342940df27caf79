import { symlinkSync, mkdirSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { CONFIG_KEY, openModel, writeStoredConfig, type ModelDescription } from '../../lib/models/index.js'
import {
  freshPath,
  rejects,
  stringPair,
  stringsPair,
  t,
  writeGguf,
  writeSafetensors,
  writeSparse,
} from './helpers.js'
import {
  tensorsOf,
  type TestTensors,
  textShapes,
  TINY_TEXT,
  TINY_UNET,
  TINY_VAE,
  unetShapes,
  vaeShapes,
} from './models.js'

t.test('paths that do not exist', async (t) => {
  const path = writeSafetensors(join(freshPath(t, ''), 'dreamshaper-v8.safetensors'), {})
  const near = (name: string) => openModel(join(dirname(path), name))
  await rejects(
    t,
    near('dreamshaper_v8.safetensor'),
    'MODEL_NOT_FOUND',
    /no such file or folder; did you mean "dreamshaper-v8.safetensors"\?/,
    'spelling',
  )
  await rejects(
    t,
    near('something-else'),
    'MODEL_NOT_FOUND',
    /holds "dreamshaper-v8.safetensors"/,
    'another name',
  )
  await rejects(t, openModel('owner/name'), 'MODEL_NOT_FOUND', /no such file or folder; on the Hugging Face Hub, it is hf:owner\/name/, 'on the Hub') // prettier-ignore
  await rejects(t, near('none/at/all'), 'MODEL_NOT_FOUND', /there is no folder .* either/, 'no folder')
  await rejects(t, openModel(join(path, 'x')), 'MODEL_NOT_FOUND', /no such file/, 'inside a file')
  for (const wrong of ['', 'a\0b', 7, undefined, null, {}])
    await t.rejects(openModel(wrong as string), TypeError)
})

t.test('files of other formats', async (t) => {
  const cases: [string, string | Buffer, 'UNSUPPORTED_MODEL' | 'MODEL_FORMAT', RegExp][] = [
    ['.ckpt', 'PK\u0003\u0004 zip', 'MODEL_FORMAT', /truncated: expected the directory of a zip archive/],
    ['.safetensors', 'PK\u0003\u0004 zip', 'MODEL_FORMAT', /directory of a zip archive/],
    ['.bin', Buffer.from([0x80, 2, 0x7d]), 'MODEL_FORMAT', /truncated: expected a PyTorch file/],
    ['.pt', 'whatever', 'MODEL_FORMAT', /expected a safetensors, GGUF or PyTorch file/],
    ['.safetensors', 'version https://git-lfs.github.com/spec/v1\n', 'MODEL_FORMAT', /git lfs pull/],
    ['.safetensors', '<!DOCTYPE html><html>', 'MODEL_FORMAT', /a web page/],
    ['.gguf', 'lmgg....', 'UNSUPPORTED_MODEL', /before GGUF/],
    ['.gguf', 'nonsense', 'MODEL_FORMAT', /expected a file that begins with "GGUF"/],
    ['.gguf', '', 'MODEL_FORMAT', /expected a safetensors, GGUF or PyTorch file, found an empty one/],
    [
      '.onnx',
      'nonsense',
      'MODEL_FORMAT',
      /expected a safetensors, GGUF or PyTorch file, found one that begins with "nonsense"/,
    ],
  ]
  for (const [extension, content, code, message] of cases) {
    const path = writeSparse(freshPath(t, extension), Buffer.from(content as string, 'latin1'))
    await rejects(t, openModel(path), code, message, `${extension} ${String(content).slice(0, 8)}`)
  }
})

t.test('the content determines the format, and links are followed', async (t) => {
  const tensors = tensorsOf(unetShapes(TINY_UNET))
  const path = writeGguf(
    freshPath(t, '.safetensors'),
    tensorsOf(unetShapes(TINY_UNET), (n) => n, 1),
  )
  t.equal((await openModel(path)).format, 'gguf')
  const other = writeSafetensors(freshPath(t, '.bin'), tensors)
  t.equal((await openModel(other)).format, 'safetensors')
  const near = await openModel(relative('.', other))
  t.equal(near.path, relative('.', other))
  t.same(near.unet!.source.files, [other], 'paths are absolute')
  const folder = freshPath(t, '')
  mkdirSync(folder)
  symlinkSync(other, join(folder, 'link.safetensors'))
  t.equal((await openModel(join(folder, 'link.safetensors'))).format, 'safetensors')
  symlinkSync(join(folder, 'nothing'), join(folder, 'broken.safetensors'))
  await rejects(
    t,
    openModel(join(folder, 'broken.safetensors')),
    'MODEL_NOT_FOUND',
    /a link whose target does not exist/,
    'broken link',
  )
})

/** A model whose configuration cannot be derived from its tensors. */
// prettier-ignore
const UNET = { ...TINY_UNET, blockChannels: [48, 48], layersPerBlock: [1, 1], downTransformerDepth: [0, 1], upTransformerDepth: [0, 1], heads: [1, 3], normGroups: 12, freqShift: 1 }
const VAE = { ...TINY_VAE, blockChannels: [24, 48], normGroups: 8, codebook: { size: 9, width: 4 } }
const TEXT = { ...TINY_TEXT, width: 96, heads: 3 }

// prettier-ignore
const OWN: ModelDescription = {
  path: '',
  format: 'gguf',
  architecture: 'pictures of cats',
  unet: { config: UNET, source: { files: [], tensors: [] } },
  vae: { config: VAE, scalingFactor: 0.5, source: { files: [], tensors: [] } },
  textEncoders: [
    { config: TEXT, skip: 1, tokenizer: { vocab: '{}', merges: '', maxLength: 16, padToken: '!' }, source: { files: [], tensors: [] } },
  ],
  schedule: {
    className: 'DDIMScheduler', trainTimesteps: 2, betaStart: 0.1, betaEnd: 0.2, betaSchedule: 'linear', trainedBetas: [0.1, 0.2],
    predictionType: 'v_prediction', timestepSpacing: 'trailing', stepsOffset: 0, setAlphaToOne: true, rescaleBetasZeroSnr: true,
    clipSample: true,
  },
  imageSize: 96,
}

const ownTensors = (type?: number): TestTensors => ({
  ...tensorsOf(unetShapes(UNET), (name) => `unet.${name}`, type),
  ...tensorsOf(vaeShapes(VAE), (name) => `vae.${name}`, type),
  ...tensorsOf(textShapes(TEXT), (name) => `text_encoder.${name}`, type),
})

/** The part of a description that does not depend on the file. */
function essence(model: ModelDescription) {
  const { path: _path, format: _format, unet, vae, textEncoders, ...rest } = model
  return {
    ...rest,
    unet: unet?.config,
    vae: vae?.config,
    scale: vae?.scalingFactor,
    textEncoders: textEncoders.map(({ source: _source, ...facts }) => facts),
  }
}

t.test("node-diffusion's own files contain the whole configuration", async (t) => {
  const config = writeStoredConfig(OWN)
  const safetensors = await openModel(
    writeSafetensors(freshPath(t, '.safetensors'), ownTensors(), { [CONFIG_KEY]: config }),
  )
  t.same(essence(safetensors), essence(OWN))

  const tensors = ownTensors(1)
  const name = 'unet.down_blocks.0.resnets.0.conv1.weight'
  tensors[name] = { shape: [48, 3, 3, 48] }
  const shortcut = 'unet.up_blocks.0.resnets.0.conv_shortcut.weight'
  tensors[shortcut] = { shape: [48, 1, 1, 96] }
  const pairs = [
    stringPair(CONFIG_KEY, config),
    stringsPair('node_diffusion.channels_last', [name, shortcut]),
  ]
  const gguf = await openModel(writeGguf(freshPath(t, '.gguf'), tensors, { pairs }))
  t.same(essence(gguf), essence(OWN))
  const table = new Map(gguf.unet!.source.tensors.map((tensor) => [tensor.name, tensor]))
  t.match(table.get('down_blocks.0.resnets.0.conv1.weight'), { shape: [48, 48, 3, 3], channelsLast: true })
  t.match(table.get('up_blocks.0.resnets.0.conv_shortcut.weight'), {
    shape: [48, 96, 1, 1],
    channelsLast: undefined,
  })
})

t.test("node-diffusion's own files with an invalid configuration", async (t) => {
  const sound = JSON.parse(writeStoredConfig(OWN)) as Record<string, never>
  const change = (edit: (config: Record<string, any>) => void) => {
    const config = structuredClone(sound)
    edit(config)
    return JSON.stringify(config)
  }
  // prettier-ignore
  const cases: [string, string, 'MODEL_FORMAT' | 'UNSUPPORTED_MODEL' | 'MODEL_SHAPE', RegExp][] = [
    ['no JSON', '{', 'MODEL_FORMAT', /node_diffusion.config is not valid JSON/],
    ['no object', '[]', 'MODEL_FORMAT', /expected a JSON object for node_diffusion.config/],
    ['a newer version', change((c) => (c.version = 2)), 'UNSUPPORTED_MODEL', /version 1 of node_diffusion.config, found 2/],
    ['no version', change((c) => delete c.version), 'MODEL_FORMAT', /for node_diffusion.config.version but received undefined/],
    ['no schedule', change((c) => delete c.schedule), 'MODEL_FORMAT', /node_diffusion.config.schedule/],
    ['millions of layers', change((c) => (c.unet.config.layersPerBlock = [1e9, 1])), 'MODEL_FORMAT', /node_diffusion.config.unet.config.layersPerBlock/],
    ['levels that differ', change((c) => (c.unet.config.heads = [1])), 'MODEL_FORMAT', /list of 2 integers.*heads/],
    ['heads that do not divide', change((c) => (c.unet.config.heads = [1, 5])), 'MODEL_FORMAT', /node_diffusion.config: expected UNet heads\[1\] to divide its 48 channels but received 5/],
    ['text for a number', change((c) => (c.vae.config.normGroups = '8')), 'MODEL_FORMAT', /normGroups but received "8"/],
    ['an unknown activation', change((c) => (c.textEncoder.config.activation = 'relu')), 'UNSUPPORTED_MODEL', /activation but received "relu"/],
    ['a component left out', change((c) => delete c.vae), 'MODEL_FORMAT', /node_diffusion.config to describe vae, whose tensors are in the file/],
    ['another model', change((c) => (c.unet.config.inChannels = 5)), 'MODEL_SHAPE', /conv_in.weight.*expected shape \[48,5,3,3\]/],
    ['betas of another length', change((c) => (c.schedule.trainedBetas = [0.1])), 'MODEL_FORMAT', /list of 2 numbers/],
    ['a tokenizer that is a number', change((c) => (c.tokenizer = 5)), 'MODEL_FORMAT', /JSON object for node_diffusion.config.tokenizer, found 5/],
  ]
  for (const [name, config, code, message] of cases) {
    const path = writeSafetensors(freshPath(t, '.safetensors'), ownTensors(), { [CONFIG_KEY]: config })
    await rejects(t, openModel(path), code, message, name)
  }
})
