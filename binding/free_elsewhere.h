// Frees large objects without keeping the JavaScript thread waiting.
#pragma once
#include <memory>
#include <utility>

#include "core/executor.h"

namespace nd_binding {

/// Gives up a share of `object` on another thread, because returning gigabytes to the system takes a while.
/// If there is no thread or no memory for that, the share is given up here.
template <class Object>
void free_elsewhere(std::shared_ptr<Object> object) noexcept {
  if (!object) return;
  try {
    nd::Executor::shared().submit([object = std::move(object)]() mutable { object.reset(); });
  } catch (...) {
    // The share went with the function that could not be submitted.
  }
}

}  // namespace nd_binding
