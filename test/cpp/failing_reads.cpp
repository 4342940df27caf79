#include "failing_reads.h"

#ifdef ND_TEST_FAILING_READS
#include <dlfcn.h>
#include <sys/types.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <limits>

namespace {
constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
std::atomic<int64_t> left{kNever}, most{0}, calls{0};
std::atomic<int> code{0};
}  // namespace

namespace nd::test::failing_reads {

void from(int64_t call, int error) {
  code = error;
  left = call;
}

void shorten(int64_t bytes) {
  calls = 0;
  most = bytes;
}

bool stop() {
  most = 0;
  return left.exchange(kNever) <= 0;
}

}  // namespace nd::test::failing_reads

// NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name)
extern "C" __attribute__((visibility("default"))) ssize_t pread(int file, void* out, size_t bytes,
                                                                off_t offset) {
  using Read = ssize_t (*)(int, void*, size_t, off_t);
  static const Read read = reinterpret_cast<Read>(dlsym(RTLD_NEXT, "pread"));
  if (left != kNever && left.fetch_sub(1) <= 1) {
    errno = code;
    return -1;
  }
  const int64_t limit = most;
  if (limit > 0 && calls++ % 3 == 0) {
    errno = EINTR;
    return -1;
  }
  return read(file, out, limit > 0 ? std::min(bytes, static_cast<size_t>(limit)) : bytes, offset);
}
#endif
