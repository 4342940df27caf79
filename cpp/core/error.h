// The one exception type of the engine. The binding turns it into a JavaScript error with the same code.
#pragma once
#include <stdexcept>
#include <string>

namespace nd {

enum class ErrorCode {
  invalid_argument,
  model_format,
  model_shape,
  unsupported_model,
  out_of_memory,
  disposed,
  io,
  device_unavailable,  // no driver, no device, or one that is too old
  device_lost          // the device or its driver failed in the middle of something
};

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

/// Ends a computation whose CancelToken was set. It is no Error: nothing failed.
struct Cancelled {};

}  // namespace nd
