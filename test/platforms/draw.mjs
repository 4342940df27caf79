// `node draw.mjs [PRECISION] [FILE]` prints a picture's description; without a console (Wine), it goes to FILE. A function,
// because a bundle in CommonJS has no await outside of one.
import { writeFileSync } from 'node:fs'
import { picture } from './picture.mjs'

const [precision, file] = process.argv.slice(2)

async function draw() {
  const result = JSON.stringify(await picture(precision))
  if (file) writeFileSync(file, result)
  else console.log(result)
}

void draw()
