// A small test harness: named cases, a filter, one line for each failure, a count at the end.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

namespace nd::test {

/// Whether to run this case: its name contains the filter of the command line, and --small (for emulators)
/// keeps it. A case's name holds everything that is needed to reproduce it: pass it as the filter.
bool wanted(const std::string& name);
bool small();
/// What follows --device on the command line: the tests of this device run in place of the engine's on the
/// CPU.
const std::string& device();

void pass();
void fail(const std::string& name, const std::string& why);
/// Passes when `why` is empty.
void report(const std::string& name, const std::string& why);

/// Counts cases within a test: failures that were caused, inputs that were made up. Their sum is printed at
/// the end, for `npm run torture`.
void count_tries(int64_t count);
/// Whether tests that try a sample of many cases are to try all or most: ND_TEST_THOROUGH is set.
bool thorough();

using Suite = void (*)();
struct Register {
  /// on_device: the suite runs where --device is given.
  explicit Register(Suite suite, bool on_device = false);
};
int run(int argc, char** argv);

/// A path for a file or folder of this process, below the system's folder for temporary files.
std::filesystem::path temporary_path(const std::string& name);
/// While no other thread reads the environment.
void set_environment(const char* name, const char* value);

/// A generator whose sequence depends on the seed alone, on every platform.
class Random {
 public:
  explicit Random(const std::string& seed);
  uint32_t next();
  float uniform() { return static_cast<float>(static_cast<int32_t>(next())) * 0x1p-31f; }  // [-1, 1)
  int64_t below(int64_t n) { return static_cast<int64_t>(next() % static_cast<uint64_t>(n)); }
  float whole() { return static_cast<float>(below(7) - 3); }

 private:
  uint64_t state_ = 14695981039346656037u;  // FNV-1a
};

std::string text(double x);

/// Floats at a 64-byte boundary plus `skew` floats, filled with a canary and with guards around them.
class Floats {
 public:
  explicit Floats(int64_t count, int64_t skew = 0);
  float* get() { return data_; }
  float& operator[](int64_t i) { return data_[i]; }
  const float& operator[](int64_t i) const { return data_[i]; }
  int64_t size() const { return count_; }
  /// Whether element i (from −kGuard to size + kGuard) was never written.
  bool untouched(int64_t i) const;
  /// Empty, or which guard element was written.
  std::string guards() const;
  static constexpr int64_t kGuard = 80;

 private:
  std::vector<float> store_;
  float* data_;
  int64_t count_;
};

/// ‖got − truth‖ / ‖truth‖, in double.
template <class Truth>
double relative_error(const std::vector<float>& got, const std::vector<Truth>& truth) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < truth.size(); ++i) {
    difference += std::pow(static_cast<double>(got[i]) - truth[i], 2);
    norm += std::pow(static_cast<double>(truth[i]), 2);
  }
  return std::sqrt(difference / norm);
}

inline uint32_t bits(float x) {
  uint32_t value;
  std::memcpy(&value, &x, sizeof value);
  return value;
}
inline bool same_bits(float a, float b) {
  return bits(a) == bits(b);
}

}  // namespace nd::test
