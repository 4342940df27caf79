// Starting threads fails when a test says so: pthread_create is replaced in this program. Not under
// sanitizers, which replace it themselves.
#pragma once

#if defined(__linux__) && !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define ND_TEST_FAILING_THREADS

namespace nd::test::failing_threads {

/// From now on starting a thread fails, but for the next `count` of them; −1: it never fails.
void after(int count);

}  // namespace nd::test::failing_threads
#endif
