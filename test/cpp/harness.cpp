#include "harness.h"

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <random>

namespace nd::test {

namespace {
struct Registered {
  Suite suite;
  bool on_device;
};
std::vector<Registered>& suites() {
  static std::vector<Registered> list;
  return list;
}
std::string filter, device_name;
bool small_set = false;
int matched = 0, passed = 0, failed = 0;
int64_t tries = 0;

// With --times, the case whose CPU time is being counted.
bool times = false;
std::string timed;
std::clock_t began = 0;
void count_time(const std::string& next) {
  if (!times) return;
  const std::clock_t now = std::clock();
  if (!timed.empty())
    std::printf("%8.3f s %s\n", static_cast<double>(now - began) / CLOCKS_PER_SEC, timed.c_str());
  timed = next;
  began = std::clock();
}

// A NaN with a payload that no arithmetic produces: a canary that also poisons every result computed from it.
constexpr uint32_t kCanary = 0x7fc0dead;
float canary() {
  float x;
  std::memcpy(&x, &kCanary, sizeof x);
  return x;
}
}  // namespace

Register::Register(Suite suite, bool on_device) {
  suites().push_back({suite, on_device});
}

bool wanted(const std::string& name) {
  const bool found = name.find(filter) != std::string::npos;
  if (found) ++matched;
  count_time(found ? name : "");
  return found;
}
bool small() {
  return small_set;
}
const std::string& device() {
  return device_name;
}
void count_tries(int64_t count) {
  tries += count;
}
bool thorough() {
  return std::getenv("ND_TEST_THOROUGH") != nullptr;  // NOLINT(concurrency-mt-unsafe): nothing sets it
}
void pass() {
  ++passed;
}

void fail(const std::string& name, const std::string& why) {
  ++failed;
  std::printf("FAIL %s: %s\n", name.c_str(), why.c_str());
}

void report(const std::string& name, const std::string& why) {
  if (why.empty())
    pass();
  else
    fail(name, why);
}

int run(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--small")
      small_set = true;
    else if (arg == "--times")
      times = true;
    else if (arg == "--device" && i + 1 < argc)
      device_name = argv[++i];
    else
      filter = arg;
  }
  if (!device_name.empty() && device_name != "emulated" && device_name != "cuda") {
    std::printf("Expected emulated or cuda after --device but received %s\n", device_name.c_str());
    return 1;
  }
  for (const Registered& one : suites())
    if (one.on_device != device_name.empty()) one.suite();
  count_time("");
  if (matched == 0)
    fail(filter, device_name.empty() ? "no test has this in its name; cuda/ needs --device emulated"
                                     : "no test of a device has this in its name");
  if (tries > 0) std::printf("%lld tried\n", static_cast<long long>(tries));
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed ? 1 : 0;
}

std::filesystem::path temporary_path(const std::string& name) {
  static const uint32_t process = std::random_device()();
  return std::filesystem::temp_directory_path() /
         std::filesystem::u8path("node-diffusion-" + std::to_string(process) + "-" + name);
}

void set_environment(const char* name, const char* value) {
#ifdef _WIN32
  _putenv_s(name, value);
#else
  setenv(name, value, 1);  // NOLINT(concurrency-mt-unsafe)
#endif
}

Random::Random(const std::string& seed) {
  for (unsigned char c : seed) state_ = (state_ ^ c) * 1099511628211u;
}

uint32_t Random::next() {
  state_ = state_ * 6364136223846793005u + 1442695040888963407u;
  return static_cast<uint32_t>(state_ >> 32);
}

std::string text(double x) {
  char buffer[40];
  std::snprintf(buffer, sizeof buffer, "%.9g", x);
  return buffer;
}

Floats::Floats(int64_t count, int64_t skew)
    : store_(static_cast<size_t>(count + 2 * kGuard + 32), canary()), count_(count) {
  const uintptr_t start = reinterpret_cast<uintptr_t>(store_.data() + kGuard);
  data_ = reinterpret_cast<float*>((start + 63) / 64 * 64) + skew;
}

bool Floats::untouched(int64_t i) const {
  return bits(data_[i]) == kCanary;
}

std::string Floats::guards() const {
  const int64_t after = store_.data() + store_.size() - (data_ + count_);
  for (int64_t i = store_.data() - data_; i < count_ + after; ++i) {
    if (i == 0) i = count_;
    if (i < count_ + after && !untouched(i))
      return "wrote element " + std::to_string(i) + " of " + std::to_string(count_);
  }
  return "";
}

}  // namespace nd::test

int main(int argc, char** argv) {
  return nd::test::run(argc, argv);
}
