/**
 * Which part of lib/ may import which: `npm run lint:imports` checks it. Imports of types count like any others, because a type
 * says as much about who knows whom. A part is a folder of lib/ or a file directly in it.
 */

/** Vocabulary and helpers that know nothing of diffusion: everyone may import them, they import only each other. */
const base = [
  'abort',
  'archive',
  'check',
  'errors',
  'event-loop',
  'import-once',
  'json-parser',
  'memory',
  'output-file',
  'package-root',
  'quote',
  'remote-tensor',
  'short-json',
  'spelling',
  'time-slice',
  'types',
  'write-error',
]

/** What each part may import besides itself and the base. */
const mayImport = {
  // Numbers, text and images: plain functions and classes that run without a model and without the addon.
  image: [],
  random: [],
  schedulers: [],
  prompt: [],
  'fair-lock': [],
  'step-event': ['image'],

  // The engine's contract, and calls into it.
  'load-addon': [],
  native: ['load-addon'],
  'native-call': ['native'],

  // Where models compute.
  device: ['native', 'native-call'],

  // Files, and what is in them.
  models: ['native', 'native-call'],
  adapters: ['native', 'native-call', 'models', 'prompt'],
  hub: ['models'],

  // What callers may ask for.
  options: ['image', 'native', 'random', 'schedulers', 'step-event'],

  // Pictures that guide a run.
  control: ['image', 'options'],

  // What is done with it.
  quantize: ['adapters', 'native', 'native-call', 'models', 'options', 'hub'],
  pipeline: [
    ...[
      'adapters',
      'control',
      'device',
      'image',
      'models',
      'native',
      'native-call',
      'options',
      'prompt',
      'fair-lock',
      'hub',
    ],
    ...['random', 'schedulers', 'step-event'],
  ],
  index: [
    ...[
      'adapters',
      'control',
      'device',
      'hub',
      'image',
      'models',
      'native',
      'options',
      'pipeline',
      'quantize',
      'random',
    ],
    ...['prompt', 'schedulers', 'step-event'],
  ],
  server: ['index', 'image', 'options'],
  cli: [
    ...[
      'device',
      'hub',
      'image',
      'index',
      'load-addon',
      'models',
      'native',
      'options',
      'pipeline',
      'quantize',
      'schedulers',
      'server',
    ],
  ],
}

/** Parts that call the addon: for computing, or for its limits and the tensors that a configuration requires. All others may only
 * name the types of its contract. */
const callTheAddon = [
  'adapters',
  'device',
  'index',
  'models',
  'native-call',
  'options',
  'pipeline',
  'quantize',
]

const pattern = (parts) => `^lib/(${parts.join('|')})(/|[.]ts$)`

export default {
  forbidden: [
    {
      name: 'no-cycles',
      comment: 'Two files that import each other are one file, or have a third one in common.',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'base-imports-base',
      comment: `The shared base (${base.join(', ')}) knows nothing of the parts that use it.`,
      severity: 'error',
      from: { path: pattern(base) },
      to: { path: '^lib/', pathNot: pattern(base) },
    },
    ...Object.entries(mayImport).map(([part, others]) => ({
      name: `${part}-imports`,
      comment: `lib/${part} may import ${['the base', ...others].join(', ')}: see mayImport in .dependency-cruiser.mjs.`,
      severity: 'error',
      from: { path: pattern([part]) },
      to: { path: '^lib/', pathNot: pattern([part, ...base, ...others]) },
    })),
    {
      name: 'known-parts',
      comment:
        'A new folder or file of lib/ needs a line in .dependency-cruiser.mjs that says what it may import.',
      severity: 'error',
      from: {},
      to: { path: '^lib/', pathNot: pattern([...base, ...Object.keys(mayImport)]) },
    },
    {
      name: 'calls-of-the-addon',
      comment: `Only ${callTheAddon.join(', ')} call the addon; everyone else imports types from native.ts.`,
      severity: 'error',
      from: { path: '^lib/', pathNot: pattern(callTheAddon) },
      to: { path: pattern(['native']), dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'no-unused-modules',
      comment: 'Every module is reached from the package’s entry point or from the command.',
      severity: 'error',
      from: { path: '^lib/(index|cli/main)[.]ts$' },
      to: { path: '^lib/', pathNot: '^lib/cli/main[.]ts$', reachable: false },
    },
    {
      name: 'lib-stands-alone',
      comment: 'The package does not import its tests, benchmarks or scripts.',
      severity: 'error',
      from: { path: '^lib/' },
      to: { path: '^(test|bench|scripts|tools|examples)/' },
    },
    {
      name: 'no-dev-dependencies',
      comment: 'A package that lib/ imports at run time has to be among the dependencies.',
      severity: 'error',
      from: { path: '^lib/' },
      to: { dependencyTypes: ['npm-dev'], dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'no-unknown-modules',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      extensions: ['.ts', '.js'],
      exportsFields: ['exports'],
      conditionNames: ['import', 'types'],
    },
    doNotFollow: { path: 'node_modules' },
  },
}
