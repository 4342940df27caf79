#include "failing_threads.h"

#ifdef ND_TEST_FAILING_THREADS
#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>

namespace {
std::atomic<int> left{-1};
}

namespace nd::test::failing_threads {

void after(int count) {
  left = count;
}

}  // namespace nd::test::failing_threads

// NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name)
extern "C" __attribute__((visibility("default"))) int pthread_create(pthread_t* thread,
                                                                     const pthread_attr_t* attributes,
                                                                     void* (*start)(void*), void* argument) {
  using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const Create create = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
  if (left == 0) return EAGAIN;
  if (left > 0) --left;
  return create(thread, attributes, start, argument);
}
#endif
