import t from 'tap'
import { closest } from '../../lib/spelling.js'

t.test('the closest candidate', (t) => {
  const words = ['prompt', 'negativePrompt', 'width', 'height', 'steps', 'seed']
  t.equal(closest('promt', words), 'prompt')
  t.equal(closest('widht', words), 'width', 'swapped letters')
  t.equal(closest('negative_prompt', words), 'negativePrompt')
  t.equal(closest('STEPS', words), 'steps', 'case')
  t.equal(closest('guidance', words), undefined, 'no candidate is close')
  t.equal(closest('', words), undefined)
  t.equal(closest('seed', []), undefined)
  const [long, longer] = ['x'.repeat(10_000_000), 'x'.repeat(20_000_000)]
  const before = process.cpuUsage()
  t.equal(closest(long, [longer]), undefined, 'long words are not compared')
  const { user, system } = process.cpuUsage(before)
  t.ok(user + system < 100_000, `${user + system} µs of CPU time`)
  t.end()
})
