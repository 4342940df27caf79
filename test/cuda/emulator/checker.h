// What stands between the calls of -fsanitize=thread and the checker.
#pragma once
#include "internal.h"

namespace emu {

constexpr int kReturnAddress = -1;  // as a line: Here::file is a return address

/// Reports a fault, once for each place of a launch.
void tell(const char* what, Here here);
/// Whether an access is a kernel's, and not to a variable of its own.
bool watched(const void* address);

}  // namespace emu
