// Where numbers wait on the host while they are copied to or from a GPU: memory that the driver has pinned,
// so that copies run beside the host's own work.
#pragma once
#include <algorithm>
#include <memory>
#include <vector>

#include "cuda/driver.h"
#include "core/memory.h"

namespace nd::cuda {

/// Two parts of memory that take turns: while one is copied, the other one is filled or read. It belongs to
/// one stream, whose context must be current. If the driver has no pinned memory left, it is ordinary memory:
/// copies then wait for each other, which is no error.
class Staging {
 public:
  static constexpr size_t kPart = size_t{4} << 20;  // some 0.1 ms of copying
  static constexpr size_t kBytes = 2 * kPart;

  Staging(const Driver& driver, StreamHandle stream);
  ~Staging() { release(); }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  StreamHandle stream() const { return stream_; }

  /// Memory to fill and send() before the next call. It waits for copies from the memory it gives. More than
  /// a part is ordinary memory, whose copy waits.
  uint8_t* reserve(size_t bytes);
  /// Copies from reserved memory; returns before it is done.
  void send(Address to, const uint8_t* from, size_t bytes);

  /// Copies what fill(uint8_t* part, size_t at, size_t count) writes for bytes [at, at + count), part by
  /// part. Returns when fill is not needed any more, which need not be when the copy is done.
  template <class Fill>
  void upload(Address to, size_t bytes, const Fill& fill) {
    for (size_t at = 0; at < bytes; at += kPart) {
      const size_t count = std::min(kPart, bytes - at);
      uint8_t* part = reserve(count);
      fill(part, at, count);
      send(to + at, part, count);
    }
  }
  void upload(Address to, const void* from, size_t bytes);

  /// take(const uint8_t* part, size_t at, size_t count) gets bytes [at, at + count), part by part; one is
  /// taken while the next one is copied. Returns when all is taken.
  template <class Take>
  void download(Address from, size_t bytes, const Take& take) {
    struct {
      const uint8_t* part = nullptr;
      size_t at = 0, count = 0;
      int number = 0;
    } before, now;
    for (size_t at = 0; at < bytes; at += kPart) {
      now.at = at, now.count = std::min(kPart, bytes - at);
      now.part = receive(from + at, now.count);
      now.number = current_;
      if (before.part) wait(before.number), take(before.part, before.at, before.count);
      before = now;
    }
    if (before.part) wait(before.number), take(before.part, before.at, before.count);
  }
  void download(void* to, Address from, size_t bytes);

  /// After the stream has done all that it was given.
  void reuse() { used_ = 0, recorded_[0] = recorded_[1] = false; }

 private:
  void release() noexcept;
  /// Begins a copy into memory that is not read before wait() of the part that is current now.
  const uint8_t* receive(Address from, size_t bytes);
  void record();
  void wait(int part);
  uint8_t* parts() const { return memory_ ? memory_ : pageable_.get(); }

  const Driver& driver_;
  StreamHandle stream_;
  uint8_t* memory_ = nullptr;            // pinned
  std::unique_ptr<uint8_t[]> pageable_;  // in its place
  std::vector<uint8_t> large_;
  EventHandle events_[2] = {};  // after the last copy from or to each part
  bool recorded_[2] = {};
  int current_ = 0;
  size_t used_ = 0;  // of the current part
};

}  // namespace nd::cuda
