// Functions that libc++ and libc++abi expect of glibc, and that musl lacks or defines differently: one addon
// runs with both.
#include <pthread.h>

#include <cstddef>
#include <cstdlib>

// NOLINTBEGIN(bugprone-reserved-identifier,readability-inconsistent-declaration-parameter-name)
extern "C" {

int __xpg_strerror_r(int error, char* text, size_t size);

/// glibc's returns the text, musl's a number. Both have the function that this one calls.
char* strerror_r(int error, char* text, size_t size) {
  if (__xpg_strerror_r(error, text, size) != 0 && size > 0) text[0] = '\0';
  return text;
}

/// glibc's; null with musl.
__attribute__((weak)) int __cxa_thread_atexit_impl(void (*destroy)(void*), void* object, void* library);

}  // extern "C"

namespace {

struct Destructor {
  void (*destroy)(void*);
  void* object;
  Destructor* next;
};

pthread_key_t key;
bool has_key = false;
pthread_once_t once = PTHREAD_ONCE_INIT;

/// The last one first. Those that a destructor registers are another list, which the thread comes to
/// afterwards.
void run_destructors(void* list) {
  for (auto* one = static_cast<Destructor*>(list); one;) {
    one->destroy(one->object);
    Destructor* next = one->next;
    free(one);
    one = next;
  }
}

}  // namespace

extern "C" int __cxa_thread_atexit(void (*destroy)(void*), void* object, void* library) {
  if (__cxa_thread_atexit_impl) return __cxa_thread_atexit_impl(destroy, object, library);
  pthread_once(&once, [] { has_key = pthread_key_create(&key, run_destructors) == 0; });
  if (!has_key) return -1;  // the destructor is never called
  auto* one = static_cast<Destructor*>(malloc(sizeof(Destructor)));
  if (!one) return -1;
  *one = {destroy, object, static_cast<Destructor*>(pthread_getspecific(key))};
  return pthread_setspecific(key, one);
}
// NOLINTEND(bugprone-reserved-identifier,readability-inconsistent-declaration-parameter-name)
