// Checks of arguments.
#pragma once
#include <string>
#include <string_view>

#include "core/error.h"

namespace nd {

/// Error invalid_argument unless `holds`.
inline void require(bool holds, std::string_view message) {
  if (!holds) throw Error(ErrorCode::invalid_argument, std::string(message));
}

}  // namespace nd
