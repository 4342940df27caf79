// Numbers from the bytes of a fuzzer. After the last byte all are zero.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace nd::fuzz {

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), left_(size) {}

  bool empty() const { return left_ == 0; }

  template <class Number>
  Number number() {
    Number value{};
    const size_t bytes = std::min(left_, sizeof value);
    if (bytes > 0) std::memcpy(&value, data_, bytes);
    data_ += bytes;
    left_ -= bytes;
    return value;
  }

  /// In [0, n).
  int64_t below(int64_t n) { return static_cast<int64_t>(number<uint8_t>()) % n; }

  /// Usually a small value, sometimes one up to `max`, sometimes one out of bounds.
  int64_t size(int64_t max) {
    switch (below(8)) {
      case 0:
        return number<int64_t>();
      case 1:
        return max - below(3);
      case 2:
        return static_cast<int64_t>(number<uint64_t>() % static_cast<uint64_t>(max)) + 1;
      default:
        return below(70);
    }
  }

  /// Up to `max` bytes that remain.
  std::vector<uint8_t> bytes(size_t max) {
    const size_t count = std::min(left_, max);
    std::vector<uint8_t> all(data_, data_ + count);
    data_ += count;
    left_ -= count;
    return all;
  }

 private:
  const uint8_t* data_;
  size_t left_;
};

/// Ends the process where `holds` is false, whatever NDEBUG says.
inline void require(bool holds) {
  if (!holds) __builtin_trap();
}

}  // namespace nd::fuzz
