/**
 * `npm run lint`: typescript-eslint's type-checked rules over the package, its tests and its scripts. What a rule says has
 * to be fixed; a rule is turned off here, with the reason, or at the one line that is right in spite of it.
 */
import js from '@eslint/js'
import { defineConfig, globalIgnores } from 'eslint/config'
import globals from 'globals'
import tseslint from 'typescript-eslint'

export default defineConfig(
  globalIgnores(['dist/', 'build/', 'docs/', 'prebuilds/', '.tap/', '**/node_modules/']),
  js.configs.recommended,
  tseslint.configs.recommendedTypeChecked,
  {
    languageOptions: {
      globals: globals.nodeBuiltin,
      // One program for all files: types are computed once, and TypeScript's own tsconfig files leave out the scripts.
      parserOptions: { project: './tsconfig.lint.json', tsconfigRootDir: import.meta.dirname },
    },
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    rules: {
      eqeqeq: ['error', 'always', { null: 'ignore' }],
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-deprecated': 'error',
      '@typescript-eslint/prefer-readonly': 'error',
      // A promise returned from inside try without await skips the catch and runs the finally too early.
      '@typescript-eslint/return-await': ['error', 'error-handling-correctness-only'],
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/use-unknown-in-catch-callback-variable': 'error',

      // Names that begin with _ and properties taken out of an object by destructuring are unused on purpose.
      '@typescript-eslint/no-unused-vars': [
        'error',
        { args: 'after-used', argsIgnorePattern: '^_', varsIgnorePattern: '^_', ignoreRestSiblings: true },
      ],
      // An AbortSignal's reason, and whatever else was caught, is passed on as it is, also where it is no Error.
      '@typescript-eslint/only-throw-error': [
        'error',
        { allowThrowingAny: true, allowThrowingUnknown: true },
      ],
      '@typescript-eslint/prefer-promise-reject-errors': [
        'error',
        { allowThrowingAny: true, allowThrowingUnknown: true },
      ],
      // Shapes in messages: `[${shape}]` prints [1,4,64,64].
      '@typescript-eslint/restrict-template-expressions': ['error', { allowArray: true }],
      // An interface may give an existing one a name of its own.
      '@typescript-eslint/no-empty-object-type': ['error', { allowInterfaces: 'with-single-extends' }],
      // File headers and names from files are searched for control characters.
      'no-control-regex': 'off',
    },
  },
  {
    // Plain JavaScript: parameters have no declared types, so every use of one would count as unsafe.
    files: ['**/*.mjs'],
    rules: {
      '@typescript-eslint/no-unsafe-argument': 'off',
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-call': 'off',
      '@typescript-eslint/no-unsafe-member-access': 'off',
      '@typescript-eslint/no-unsafe-return': 'off',
      '@typescript-eslint/use-unknown-in-catch-callback-variable': 'off',
    },
  },
  {
    files: ['lib/{options,pipeline,control,schedulers,random}/**/*.ts'],
    rules: {
      'no-restricted-properties': [
        'error',
        {
          object: 'Array',
          property: 'isArray',
          message: 'It throws for a proxy that has been revoked: use isArray() of check.ts.',
        },
      ],
    },
  },
  {
    files: ['test/**/*.ts'],
    rules: {
      // tap queues subtests and waits for them.
      '@typescript-eslint/no-floating-promises': [
        'error',
        { allowForKnownSafeCalls: [{ from: 'package', package: '@tapjs/test', name: 'test' }] },
      ],
      // Subtests are async whether or not they wait, and stand-ins implement asynchronous interfaces.
      '@typescript-eslint/require-await': 'off',
      // Methods are taken from objects in order to be wrapped, or called on a wrong `this`.
      '@typescript-eslint/unbound-method': 'off',
      // Fixtures and headers of files are read with JSON.parse and edited: a wrong guess at their form fails the test.
      '@typescript-eslint/no-explicit-any': 'off',
      '@typescript-eslint/no-unsafe-argument': 'off',
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-call': 'off',
      '@typescript-eslint/no-unsafe-member-access': 'off',
      '@typescript-eslint/no-unsafe-return': 'off',
    },
  },
)
