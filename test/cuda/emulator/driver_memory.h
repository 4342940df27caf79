// Memory of the emulated driver, on its devices and pinned on the host, and copies between them.
#pragma once
#include "driver_contexts.h"

namespace emu {

/// Frees the pinned memory of a context. `mutex` must be locked.
void release_pinned(const Context* context);

Result memory_allocate(DevicePointer* pointer, size_t bytes);
Result memory_release(DevicePointer pointer);
Result memory_info(size_t* free, size_t* total);
Result host_allocate(void** pointer, size_t bytes, unsigned flags);
Result host_release(void* pointer);
Result copy_to_device(DevicePointer to, const void* from, size_t bytes, StreamHandle stream);
Result copy_to_host(void* to, DevicePointer from, size_t bytes, StreamHandle stream);
Result copy_on_device(DevicePointer to, DevicePointer from, size_t bytes, StreamHandle stream);

}  // namespace emu
