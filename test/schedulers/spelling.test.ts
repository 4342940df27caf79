import t from 'tap'
import { closest } from '../../lib/spelling.js'

t.test('the likely spelling', (t) => {
  const words = ['prompt', 'negativePrompt', 'width', 'height', 'steps', 'seed']
  t.equal(closest('promt', words), 'prompt')
  t.equal(closest('widht', words), 'width', 'swapped letters')
  t.equal(closest('negative_prompt', words), 'negativePrompt')
  t.equal(closest('STEPS', words), 'steps', 'case')
  t.equal(closest('guidance', words), undefined, 'nothing near')
  t.equal(closest('', words), undefined)
  t.equal(closest('seed', []), undefined)
  t.end()
})
