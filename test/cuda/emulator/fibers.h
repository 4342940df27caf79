// Switching from one stack to another: the one place that depends on the processor.
#pragma once

namespace emu {

/// Saves the running stack's pointer to *save and goes on where `load` was saved.
extern "C" void emu_switch(void** save, void* load);

/// A stack on which emu_switch begins `body`, which never returns.
void* new_stack(void* top, void (*body)());

}  // namespace emu
