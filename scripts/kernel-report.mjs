/** What ptxas -v says of each kernel in a compiler's output. */

/** [{ name, registers, spills }], spills in bytes of stores and loads. */
export function kernelsOf(log) {
  const kernels = []
  for (const line of log.split('\n')) {
    const name = /Compiling entry function '([^']+)'/.exec(line)?.[1]
    if (name) kernels.push({ name, registers: 0, spills: 0 })
    const kernel = kernels.at(-1)
    const spills = /(\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line)
    if (spills && kernel) kernel.spills = Number(spills[1]) + Number(spills[2])
    const registers = /Used (\d+) registers/.exec(line)
    if (registers && kernel) kernel.registers = Number(registers[1])
  }
  return kernels
}
