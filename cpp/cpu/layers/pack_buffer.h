// Memory in which a task collects the rows of a panel before they are packed.
#pragma once
#include <cstddef>

namespace nd::cpu {

/// A buffer of float32, 64-byte aligned, for as long as this object lives. All buffers of the process
/// together take at most kMaxBytes, or one of them more: a task waits for others to end theirs, so a task may
/// have one only. Buffers are kept for the next task until free_unused().
class PackBuffer {
 public:
  static constexpr size_t kMaxBytes = size_t{128} << 20;

  /// Error out_of_memory.
  explicit PackBuffer(size_t floats);
  ~PackBuffer();
  PackBuffer(const PackBuffer&) = delete;
  PackBuffer& operator=(const PackBuffer&) = delete;

  float* data() const;

  static void free_unused() noexcept;
  /// Bytes of all buffers, in use or not.
  static size_t held_bytes();

 private:
  struct Block;
  struct Pool;
  Block* block_;
};

}  // namespace nd::cpu
