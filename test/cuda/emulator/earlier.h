// What device memory held before the previous kernel: that is what a kernel may see which reads before it has
// waited for that one.
#pragma once
#include <cstdint>

namespace emu {

/// Before a kernel runs: notes all device memory, if driver_options.keeps_earlier is set. The driver's mutex
/// must be locked.
void note_memory();
/// Where the byte is kept that lay here before the previous kernel ran; itself if its memory was not there,
/// or nothing is noted.
const uint8_t* earlier(const uint8_t* byte);

}  // namespace emu
