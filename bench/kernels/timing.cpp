#include "timing.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "core/thread_pool.h"

namespace nd::cpu::bench {

Options options;

namespace {
double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
}  // namespace

bool wanted(const std::string& name) {
  return name.find(options.filter) != std::string::npos;
}

double best_time(int64_t count, const std::function<void(int64_t, int)>& slice) {
  static ThreadPool pool(options.threads);
  double best = 1e30;
  std::vector<double> shortest(static_cast<size_t>(count), 1e30);
  const double begin = now();
  for (int round = 0; round < 3 || now() - begin < options.seconds; ++round) {
    const double start = now();
    if (options.threads > 1) {
      pool.parallel_for(count, nullptr, slice);
      best = std::min(best, now() - start);
      continue;
    }
    double last = start;
    for (int64_t i = 0; i < count; ++i) {
      slice(i, 0);
      const double end = now();
      shortest[static_cast<size_t>(i)] = std::min(shortest[static_cast<size_t>(i)], end - last);
      last = end;
    }
  }
  if (options.threads > 1) return best;
  double sum = 0;
  for (double time : shortest) sum += time;
  return sum;
}

double measure_peak(const std::function<int64_t(int64_t)>& loop) {
  const int64_t rounds = 50'000;  // a sixth of a millisecond
  const int64_t operations = loop(1) * rounds;
  if (!operations) return 0;
  const double time = best_time(options.threads, [&](int64_t, int) { loop(rounds); });
  return static_cast<double>(operations) * options.threads / time;
}

// The engine's working memory and packed weights lie in huge pages, too (core/arena.cpp,
// cpu/layers/packed_matrix.cpp).
Buffer::Buffer(int64_t count) {
  constexpr size_t kHugePage = 2 << 20;
  size_t bytes = (static_cast<size_t>(count) * 4 + 127) / 64 * 64;
  const bool huge = bytes >= kHugePage;
  if (huge) bytes = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  data_ = static_cast<float*>(std::aligned_alloc(huge ? kHugePage : 64, bytes));
#ifdef MADV_HUGEPAGE
  if (huge) madvise(data_, bytes, MADV_HUGEPAGE);
#endif
  uint32_t state = 12345;
  for (int64_t i = 0; i < count; ++i) {
    state = state * 1664525u + 1013904223u;
    data_[i] = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-33f;
  }
}

Buffer::~Buffer() {
  std::free(data_);
}

// Names contain nothing that JSON escapes.

void print_peak(const std::string& table, const std::string& compute, double peak) {
  if (!(peak > 0)) return;
  std::printf(options.json ? "{\"table\":\"%s\",\"compute\":\"%s\",\"peak\":%.4g,\"threads\":%d}\n"
                           : "%-12s peak %s: %.4g operations/s, %d thread(s)\n",
              table.c_str(), compute.c_str(), peak, options.threads);
  std::fflush(stdout);
}

void print(const std::string& table, const std::string& name, double time, double operations, double peak) {
  const double rate = operations / time, part = peak > 0 ? rate / peak : 0;
  if (options.json) {
    std::printf("{\"table\":\"%s\",\"name\":\"%s\",\"seconds\":%.6g,\"rate\":%.5g,\"part\":%.4g}\n",
                table.c_str(), name.c_str(), time, rate, part);
  } else {
    std::printf("%-12s %-62s %9.3f ms %8.1f GFLOP/s", table.c_str(), name.c_str(), time * 1e3, rate * 1e-9);
    if (peak > 0) std::printf(" %6.1f %%", 100 * part);
    std::printf("\n");
  }
  std::fflush(stdout);
}

void print_bandwidth(const std::string& table, const std::string& name, double time, double bytes) {
  if (options.json)
    std::printf("{\"table\":\"%s\",\"name\":\"%s\",\"seconds\":%.6g,\"bandwidth\":%.5g}\n", table.c_str(),
                name.c_str(), time, bytes / time);
  else
    std::printf("%-12s %-62s %9.3f ms %8.1f GB/s\n", table.c_str(), name.c_str(), time * 1e3,
                bytes / time * 1e-9);
  std::fflush(stdout);
}

}  // namespace nd::cpu::bench
