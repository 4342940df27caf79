/** The check of includes, on small trees made for it: what it accepts, and each thing that it refuses. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import { packageRoot } from '../../lib/package-root.js'

const script = join(packageRoot(), 'scripts', 'check-includes.mjs')

/** A tree that keeps to the rules; `changed` replaces or adds files. */
function check(t: { testdir(): string }, changed: Record<string, string> = {}) {
  const root = t.testdir()
  const files: Record<string, string> = {
    'cpp/core/error.h': '#include <string>',
    'cpp/weights/table.h': '#include "core/error.h"',
    'cpp/weights/formats/q8_0.cpp': '#include "weights/table.h"',
    'cpp/nn/compute.h': '',
    'cpp/nn/layers.h': '#include "nn/compute.h"\n#include "weights/table.h"',
    'cpp/cpu/kernels/kernels.h': '#include "core/error.h"\n#include "nn/compute.h"',
    'cpp/cpu/kernels/simd/avx2.cpp': '#include "gemm.inc.h"',
    'cpp/cpu/kernels/simd/gemm.inc.h': '#include "cpu/kernels/kernels.h"',
    'cpp/cpu/layers/linear.h': '#include "cpu/kernels/kernels.h"\n#include "nn/layers.h"',
    'cpp/cpu/backend.h': '#include "nn/layers.h"',
    'cpp/cpu/backend.cpp': '#include "backend.h"\n#include "cpu/layers/linear.h"',
    'cpp/unet/unet.h': '#include "nn/layers.h"',
    'binding/unet.cpp': '#include <napi.h>\n#include "cpu/backend.h"\n#include "unet/unet.h"',
    'test/cpp/harness.h': '',
    'test/cpp/linear_test.cpp': '#include "cpu/layers/linear.h"\n#include "harness.h"',
    'bench/kernels/main.cpp': '#include "harness.h"',
    ...changed,
  }
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(join(root, dirname(file)), { recursive: true })
    writeFileSync(join(root, file), text)
  }
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, '--root', root], {
    encoding: 'utf8',
  })
  return { status, output: stdout + stderr }
}

t.test('a tree that keeps to the rules', (t) => {
  const { status, output } = check(t)
  t.match(output, /^19 includes in 16 files: no cycle, no forbidden arrow$/m)
  t.equal(status, 0)
  t.end()
})

const refused: [title: string, files: Record<string, string>, message: RegExp][] = [
  [
    'files that include each other',
    { 'cpp/nn/compute.h': '#include "nn/layers.h"' },
    /cycle of files: cpp\/nn\/layers\.h → cpp\/nn\/compute\.h → cpp\/nn\/layers\.h/,
  ],
  [
    'textual includes that include each other',
    { 'cpp/cpu/kernels/simd/gemm.inc.h': '#include "avx2.cpp"' },
    /cycle of files: cpp\/cpu\/kernels\/simd\/avx2\.cpp → cpp\/cpu\/kernels\/simd\/gemm\.inc\.h →/,
  ],
  [
    'layers that include each other by way of different files',
    { 'cpp/core/pool.h': '#include "weights/other.h"', 'cpp/weights/other.h': '' },
    /cycle of layers: (core → weights → core|weights → core → weights) \(.*cpp\/core\/pool\.h:1/,
  ],
  [
    'a model that knows the CPU',
    { 'cpp/unet/unet.h': '\n#  include "cpu/backend.h"' },
    /cpp\/unet\/unet\.h:2: unet may not include cpp\/cpu\/backend\.h \(cpu\)/,
  ],
  [
    'kernels that know more of nn/ than the types of compute',
    { 'cpp/cpu/kernels/kernels.h': '#include "nn/layers.h"' },
    /kernels may not include cpp\/nn\/layers\.h \(nn\)/,
  ],
  [
    'a binding that knows kernels',
    { 'binding/unet.cpp': '#include "cpu/kernels/kernels.h"' },
    /binding may not include cpp\/cpu\/kernels\/kernels\.h \(kernels\)/,
  ],
  [
    'an engine that knows its tests',
    { 'cpp/nn/compute.h': '#include "harness.h"' },
    /nn may not include test\/cpp/,
  ],
  [
    'an engine that knows Node-API',
    { 'cpp/nn/compute.h': '#include <napi.h>' },
    /only binding\/ knows Node-API/,
  ],
  [
    'a model that looks behind an address',
    { 'cpp/unet/unet.cpp': 'auto* p = reinterpret_cast<float*>(x);' },
    /cpp\/unet\/unet\.cpp:1: auto\* p = reinterpret_cast/,
  ],
  ['a file that is not there', { 'cpp/nn/compute.h': '#include "nn/gone.h"' }, /"nn\/gone\.h" was not found/],
  ['a folder without a layer', { 'cpp/quant/half.h': '' }, /cpp\/quant\/half\.h: no layer has this folder/],
]

for (const [title, files, message] of refused)
  t.test(title, (t) => {
    const { status, output } = check(t, files)
    t.match(output, message)
    t.equal(status, 1)
    t.end()
  })

t.test('comments do not count', (t) => {
  const { status, output } = check(t, {
    'cpp/unet/unet.cpp': [
      '// #include "cpu/backend.h"',
      '/*',
      '#include "cpu/backend.h"',
      'reinterpret_cast<float*>(x) */',
      `const char quote = '"'; // reinterpret_cast<float*>(x)`,
    ].join('\n'),
  })
  t.match(output, /no forbidden arrow/)
  t.equal(status, 0)
  t.end()
})
