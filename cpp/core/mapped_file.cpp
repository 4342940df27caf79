#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/error.h"
#include "core/weights.h"

namespace nd {

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) throw Error(ErrorCode::io, "Could not open " + path + ": " + std::strerror(errno));
  struct stat status;
  const bool known = fstat(file, &status) == 0;
  if (!known || !S_ISREG(status.st_mode) || status.st_size == 0) {
    ::close(file);
    throw Error(ErrorCode::io, "Could not read " + path + ": expected a file that is not empty");
  }
  size_ = static_cast<size_t>(status.st_size);
  void* mapping = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file, 0);
  const int error = errno;
  ::close(file);
  if (mapping == MAP_FAILED) throw Error(ErrorCode::io, "Could not map " + path + ": " + std::strerror(error));
  data_ = static_cast<const uint8_t*>(mapping);
}

MappedFile::~MappedFile() { munmap(const_cast<uint8_t*>(data_), size_); }

void MappedFile::forget(const uint8_t* begin, size_t bytes) const {
  static const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  // Pages shared with a neighbouring tensor may be forgotten too: they are only read again.
  const size_t first = static_cast<size_t>(begin - data_) / page * page;
  const size_t last = (static_cast<size_t>(begin - data_) + bytes + page - 1) / page * page;
  madvise(const_cast<uint8_t*>(data_) + first, last - first, MADV_DONTNEED);
}

}  // namespace nd
