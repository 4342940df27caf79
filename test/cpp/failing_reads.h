// Reading weight files fails or falls short when a test says so: pread is replaced in this program. Not under
// sanitizers, which replace it themselves.
#pragma once
#include <cstdint>

#if defined(__linux__) && !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define ND_TEST_FAILING_READS

namespace nd::test::failing_reads {

/// The `call`th read from now (1 or more), in any thread, fails with `error`, and so do all after it until
/// stop().
void from(int64_t call, int error);
/// Of the reads from now on, every third is interrupted by a signal (EINTR), and the others return at most
/// `bytes` bytes.
void shorten(int64_t bytes);
/// Reads are whole again. Returns whether one has failed.
bool stop();

}  // namespace nd::test::failing_reads
#endif
