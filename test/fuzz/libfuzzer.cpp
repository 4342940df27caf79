// The entry point of a libFuzzer program for the target ND_FUZZ_TARGET.
#include "targets.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  nd::fuzz::ND_FUZZ_TARGET(data, size);
  return 0;
}
