// Allocations fail when a test says so: operator new and mmap are replaced in this program. Not under
// sanitizers, which replace them themselves.
#pragma once
#include <cstdint>

#if defined(__linux__) && !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define ND_TEST_FAILING_MEMORY

namespace nd::test::failing_memory {

/// The `call`th allocation from now (1 or more), in any thread, fails, and so do all after it until stop().
void from(int64_t call);
/// Nothing fails any more. Returns whether an allocation has failed.
bool stop();
/// Bytes of operator new that are in use.
int64_t in_use();

}  // namespace nd::test::failing_memory
#endif
