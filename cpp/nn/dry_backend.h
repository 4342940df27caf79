// The backend of a loader's dry run: it makes no layers.
#pragma once
#include "nn/backend.h"

namespace nd {

Backend& dry_backend();

}  // namespace nd
