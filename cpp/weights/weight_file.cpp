#include <algorithm>
#include <atomic>
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

/// Whether a time is the one that was known before. Deno gives times to the millisecond or the second,
/// rounded down.
bool same_time(int64_t known, int64_t now) {
  const auto in_units_of = [&](int64_t unit) { return known % unit == 0 && known / unit == now / unit; };
  return known == now || in_units_of(1'000'000) || in_units_of(1'000'000'000);
}

/// Whether a file is the same one in the same state as before (a). What a system does not know is zero there.
bool same(const os::FileState& a, const os::FileState& b) {
  const auto equal = [](auto x, auto y) { return x == y || x == 0 || y == 0; };
  // Deleting a file, or a link to it, changes that time too, and leaves the content alone.
  const bool unchanged =
      a.changed == 0 || b.changed == 0 || same_time(a.changed, b.changed) || a.links != b.links;
  return equal(a.device, b.device) && equal(a.inode, b.inode) && a.size == b.size &&
         same_time(a.modified, b.modified) && unchanged;
}

[[noreturn]] void throw_changed(const std::string& path, const char* since, const os::FileState& before,
                                const os::FileState& now) {
  const std::string how = now.size == before.size ? ""
                                                  : ", from " + std::to_string(before.size) + " to " +
                                                        std::to_string(now.size) + " bytes";
  throw Error(ErrorCode::io, "Could not read " + path + ": it was changed, replaced or moved after " + since +
                                 how + ". Is it still being written?");
}

}  // namespace

WeightFile::WeightFile(const std::string& path, const std::optional<os::FileState>& header)
    : path_(path), file_(path) {
  static std::atomic<uint64_t> ids{0};
  id_ = ++ids;
  if (!file_.is_open()) throw Error(ErrorCode::io, "Could not open " + path + ": " + os::last_error());
  if (!file_.state(opened_) || !opened_.regular || opened_.size == 0)
    throw Error(ErrorCode::io, "Could not read " + path + ": expected a file that is not empty");
  if (header && !same(*header, opened_)) throw_changed(path, "its header was read", *header, opened_);
}

// A model whose weights are streamed would otherwise mix those of two files.
void WeightFile::check_unchanged() const {
  os::FileState now;
  if (!file_.state(now)) throw Error(ErrorCode::io, "Could not read " + path_ + ": " + os::last_error());
  if (!same(opened_, now)) throw_changed(path_, "it was opened", opened_, now);
}

void WeightFile::fill(uint64_t offset, size_t bytes, uint8_t* out) const {
  while (bytes > 0) {
    const int64_t count = file_.read(offset, bytes, out);
    if (count < 0) throw Error(ErrorCode::io, "Could not read " + path_ + ": " + os::last_error());
    if (count == 0)
      throw Error(ErrorCode::io, "Could not read " + path_ + ": it had " + std::to_string(opened_.size) +
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
