#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <vector>

#include "core/error.h"
#include "weights/weight_file.h"

namespace nd {

namespace {

/// The bytes that a thread has read last.
struct ReadAhead {
  uint64_t file = 0, offset = 0;
  size_t bytes = 0;
  std::vector<uint8_t> memory;
};
thread_local ReadAhead last;

int64_t nanoseconds(const struct timespec& time) {
  return static_cast<int64_t>(time.tv_sec) * 1000000000 + time.tv_nsec;
}

#ifdef __APPLE__
int64_t modified(const struct stat& status) {
  return nanoseconds(status.st_mtimespec);
}
int64_t changed(const struct stat& status) {
  return nanoseconds(status.st_ctimespec);
}
#else
int64_t modified(const struct stat& status) {
  return nanoseconds(status.st_mtim);
}
int64_t changed(const struct stat& status) {
  return nanoseconds(status.st_ctim);
}
#endif

}  // namespace

WeightFile::WeightFile(const std::string& path) : path_(path) {
  static std::atomic<uint64_t> ids{0};
  id_ = ++ids;
  file_ = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file_ < 0)
    throw Error(ErrorCode::io, "Could not open " + path + ": " + std::generic_category().message(errno));
  struct stat status = {};
  const bool known = fstat(file_, &status) == 0;
  if (!known || !S_ISREG(status.st_mode) || status.st_size == 0) {
    ::close(file_);
    throw Error(ErrorCode::io, "Could not read " + path + ": expected a file that is not empty");
  }
  size_ = static_cast<uint64_t>(status.st_size);
  modified_ = modified(status);
  changed_ = changed(status);
  links_ = status.st_nlink;
}

WeightFile::~WeightFile() {
  ::close(file_);
}

// A model whose weights are streamed would otherwise mix those of two files.
void WeightFile::check_unchanged() const {
  struct stat status = {};
  if (fstat(file_, &status) != 0)
    throw Error(ErrorCode::io, "Could not read " + path_ + ": " + std::generic_category().message(errno));
  const auto size = static_cast<uint64_t>(status.st_size);
  // Deleting a file, or a link to it, changes that time too, and leaves the content alone.
  const bool same_time = changed(status) == changed_ || status.st_nlink != links_;
  if (size == size_ && modified(status) == modified_ && same_time) return;
  const std::string how =
      size == size_ ? "" : ", from " + std::to_string(size_) + " to " + std::to_string(size) + " bytes";
  throw Error(ErrorCode::io, "Could not read " + path_ + ": it was changed or moved after it was opened" +
                                 how + ". Is it still being written?");
}

void WeightFile::fill(uint64_t offset, size_t bytes, uint8_t* out) const {
  while (bytes > 0) {
    const ssize_t count = pread(file_, out, bytes, static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0)
      throw Error(ErrorCode::io, "Could not read " + path_ + ": " + std::generic_category().message(errno));
    if (count == 0)
      throw Error(ErrorCode::io, "Could not read " + path_ + ": it had " + std::to_string(size_) +
                                     " bytes when it was opened, and ends at byte " + std::to_string(offset) +
                                     " now. Is it still being written?");
    offset += static_cast<uint64_t>(count);
    out += count;
    bytes -= static_cast<size_t>(count);
  }
}

const uint8_t* WeightFile::read(uint64_t offset, size_t bytes, uint64_t limit) const {
  if (last.file != id_ || offset < last.offset || offset + bytes > last.offset + last.bytes) {
    last.file = 0;  // should reading fail
    last.memory.resize(kBuffer);
    last.bytes = std::max(bytes, static_cast<size_t>(std::min<uint64_t>(kBuffer, limit - offset)));
    fill(offset, last.bytes, last.memory.data());
    check_unchanged();
    last.file = id_;
    last.offset = offset;
  }
  return last.memory.data() + (offset - last.offset);
}

}  // namespace nd
