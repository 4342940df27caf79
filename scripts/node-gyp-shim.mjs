#!/usr/bin/env node
/** prebuildify calls `node-gyp rebuild …`; this answers in its place (PREBUILD_NODE_GYP) with cmake-js. */
import { BuildError, buildAddon } from './build-addon.mjs'

const arch = process.argv.find((argument) => argument.startsWith('--arch='))?.slice('--arch='.length)
if (arch && arch !== process.arch) {
  console.error(
    `Prebuilds are made on the machine they are for: this is ${process.arch}, asked for was ${arch}.`,
  )
  process.exit(1)
}
try {
  buildAddon()
} catch (error) {
  console.error(error instanceof BuildError ? error.message : error)
  process.exit(1)
}
