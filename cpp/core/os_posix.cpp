#ifndef _WIN32
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <system_error>

#include "core/os.h"

namespace nd::os {
namespace {

int64_t nanoseconds(const struct timespec& time) {
  return static_cast<int64_t>(time.tv_sec) * 1000000000 + time.tv_nsec;
}

}  // namespace

void* allocate_pages(size_t bytes) {
  void* pages = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return pages == MAP_FAILED ? nullptr : pages;
}

void release_pages(void* pages, size_t bytes) {
  munmap(pages, bytes);
}

void prefer_huge_pages([[maybe_unused]] void* pages, [[maybe_unused]] size_t bytes) {
#ifdef MADV_HUGEPAGE
  madvise(pages, bytes, MADV_HUGEPAGE);
#endif
}

void* allocate_aligned(size_t bytes) {
  return std::aligned_alloc(64, (bytes + 63) / 64 * 64);
}

void free_aligned(void* memory) {
  std::free(memory);
}

File::File(const std::string& path) {
  // O_NONBLOCK: opening a pipe that nobody writes to would wait for ever. It has no effect on regular files.
  do {
    handle_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  } while (handle_ < 0 && errno == EINTR);
}

File::~File() {
  if (is_open()) close(static_cast<int>(handle_));
}

bool File::state(FileState& result) const {
  struct stat status = {};
  if (fstat(static_cast<int>(handle_), &status) != 0) return false;
  result.regular = S_ISREG(status.st_mode);
  result.device = static_cast<uint64_t>(status.st_dev);
  result.inode = static_cast<uint64_t>(status.st_ino);
  result.size = static_cast<uint64_t>(status.st_size);
#ifdef __APPLE__
  result.modified = nanoseconds(status.st_mtimespec);
  result.changed = nanoseconds(status.st_ctimespec);
#else
  result.modified = nanoseconds(status.st_mtim);
  result.changed = nanoseconds(status.st_ctim);
#endif
  result.links = status.st_nlink;
  return true;
}

int64_t File::read(uint64_t offset, size_t bytes, uint8_t* out) const {
  for (;;) {
    const ssize_t count = pread(static_cast<int>(handle_), out, bytes, static_cast<off_t>(offset));
    if (count >= 0 || errno != EINTR) return count;
  }
}

std::string last_error() {
  return std::generic_category().message(errno);
}

void stay_loaded() {
  Dl_info info = {};
  // The handle is meant to leak. RTLD_NOLOAD only finds what is loaded already.
  if (dladdr(reinterpret_cast<void*>(&stay_loaded), &info) != 0 && info.dli_fname)
    (void)dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

}  // namespace nd::os
#endif
