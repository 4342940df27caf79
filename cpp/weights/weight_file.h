// The files that weights are read from.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "core/os.h"

namespace nd {

/// An open file. It is read, not mapped: if a mapped file shrinks (a restarted download, a failing disk), the
/// process dies of SIGBUS, where a read reports an error. The pages that were read belong to the system's
/// cache, so memory holds each weight once, packed.
class WeightFile {
 public:
  /// `header`: what the file was when its header was read. Error io: it cannot be opened, is empty, or is
  /// not that file any more.
  explicit WeightFile(const std::string& path, const std::optional<os::FileState>& header = std::nullopt);

  /// The size when it was opened.
  uint64_t size() const { return opened_.size; }
  const std::string& path() const { return path_; }
  /// `bytes` bytes from `offset`, at most kBuffer, in memory of the calling thread: valid until its next
  /// call. Reads ahead up to `limit`, since the bytes that follow are most likely wanted next. Error io: the
  /// file cannot be read, or has changed since it was opened.
  const uint8_t* read(uint64_t offset, size_t bytes, uint64_t limit) const;
  static constexpr size_t kBuffer = 128 << 10;

 private:
  void fill(uint64_t offset, size_t bytes, uint8_t* out) const;
  void check_unchanged() const;

  std::string path_;
  os::File file_;
  os::FileState opened_;  // when it was opened
  uint64_t id_;           // identifies this object: a freed object's address can be reused
};

}  // namespace nd
