// Frees large objects without keeping the JavaScript thread waiting.
#pragma once
#include <memory>

namespace nd_binding {

/// Gives up a share of `object` on another thread, because returning gigabytes to the system takes a while.
/// If there is no thread or no memory for that, the share is given up here.
void free_elsewhere(std::shared_ptr<void> object) noexcept;

/// Waits for all shares that are being given up. Where an environment ends, the process may: a GPU's driver
/// is gone by the time that other threads go on.
void wait_until_freed() noexcept;

}  // namespace nd_binding
