#include "report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "cuda/trial/kernel_timer.h"

namespace nd::cuda_bench {

using namespace nd::cuda;

void Report::add(const std::string& group, Row row) {
  std::printf("%-10s %-44s", group.c_str(), row.name.c_str());
  for (const auto& [key, value] : row.numbers)
    if (key[0] != 't' || key[1] == 'f') std::printf("  %s %.4g", key.c_str(), value);  // not the candidates
  std::printf("\n");
  std::fflush(stdout);
  for (auto& [name, rows] : groups_)
    if (name == group) return rows.push_back(std::move(row));
  groups_.push_back({group, {std::move(row)}});
}

void Report::write(const std::string& path) const {
  if (path.empty()) return;
  FILE* file = std::fopen(path.c_str(), "w");
  if (!file) throw Error(ErrorCode::io, path + " cannot be written");
  std::fprintf(file, "{");
  const char* separator = "\n";
  for (const auto& [key, value] : texts_) {
    std::fprintf(file, "%s  \"%s\": \"%s\"", separator, key.c_str(), value.c_str());
    separator = ",\n";
  }
  for (const auto& [name, rows] : groups_) {
    std::fprintf(file, "%s  \"%s\": [", separator, name.c_str());
    separator = ",\n";
    const char* comma = "\n";
    for (const Row& row : rows) {
      std::fprintf(file, "%s    { \"name\": \"%s\"", comma, row.name.c_str());
      for (const auto& [key, value] : row.numbers) {
        std::fprintf(file, ", \"%s\": ", key.c_str());
        if (std::isfinite(value))
          std::fprintf(file, "%.6g", value);
        else
          std::fprintf(file, "null");  // JSON has no other numbers
      }
      std::fprintf(file, " }");
      comma = ",\n";
    }
    std::fprintf(file, "\n  ]");
  }
  std::fprintf(file, "\n}\n");
  std::fclose(file);
}

Peak peak_of(const std::string& device) {
  struct Card {
    const char* name = nullptr;
    Peak peak;
  };
  constexpr Card cards[] = {{"H200", {989, 4800}},     {"H100 PCIe", {756, 2000}}, {"H100", {989, 3350}},
                            {"A100", {312, 2039}},     {"L40S", {362, 864}},       {"L4", {121, 300}},
                            {"RTX 4090", {165, 1008}}, {"T4", {65, 320}}};
  for (const Card& card : cards)
    if (device.find(card.name) != std::string::npos) return card.peak;
  return {};
}

double device_microseconds(CudaBackend& backend, int repetitions,
                           const std::function<void(StreamHandle)>& launch) {
  Device& device = backend.device();
  const Device::Current current(device);
  const KernelTimer timer(device);
  constexpr int kAtOnce = 5;
  const std::vector<double> times = timer.measure(launch, std::max(1, repetitions / kAtOnce), kAtOnce);
  return times[times.size() / 2];
}

}  // namespace nd::cuda_bench
