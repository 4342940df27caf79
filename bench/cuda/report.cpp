#include "report.h"

#include <algorithm>
#include <cstdio>

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
      for (const auto& [key, value] : row.numbers) std::fprintf(file, ", \"%s\": %.6g", key.c_str(), value);
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
  const Driver& driver = device.driver();
  const Device::Current current(device);
  const Device::Stream stream(device);
  EventHandle begin, end;
  check(driver, driver.event_create(&begin, 0), "Could not create an event");
  check(driver, driver.event_create(&end, 0), "Could not create an event");
  launch(stream.handle());  // the first one loads what is loaded lazily
  std::vector<double> times;
  // Several at once, as launching one takes longer than some kernels.
  constexpr int kAtOnce = 5;
  for (int i = 0; i < std::max(1, repetitions / kAtOnce); ++i) {
    check(driver, driver.event_record(begin, stream.handle()), "Could not record an event");
    for (int j = 0; j < kAtOnce; ++j) launch(stream.handle());
    check(driver, driver.event_record(end, stream.handle()), "Could not record an event");
    check(driver, driver.event_synchronize(end), "The GPU failed");
    float milliseconds = 0;
    check(driver, driver.event_elapsed(&milliseconds, begin, end), "Could not read the time");
    times.push_back(static_cast<double>(milliseconds) * 1e3 / kAtOnce);
  }
  driver.event_destroy(begin);
  driver.event_destroy(end);
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

}  // namespace nd::cuda_bench
