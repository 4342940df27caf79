// One block of a grid.
#pragma once
#include "internal.h"

namespace emu {

/// As many fibers as the block has threads, and its shared memory.
void make_block(Block& b, dim3 size, size_t shared);
/// Runs the kernel for the block's index.
void run_block(Block& b);

}  // namespace emu
