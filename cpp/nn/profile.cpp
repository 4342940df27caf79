#include "nn/profile.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <utility>

namespace nd {

namespace {
std::atomic<bool> enabled_{false};
std::mutex mutex;
std::vector<Profile::Row> total;
thread_local Profile* counted_ = nullptr;

size_t find(std::vector<Profile::Row>& rows, const char* kind, Compute compute) {
  for (size_t i = 0; i < rows.size(); ++i)
    if (rows[i].compute == compute && std::strcmp(rows[i].kind, kind) == 0) return i;
  rows.push_back({kind, compute});
  return rows.size() - 1;
}
}  // namespace

Profile::Profile() : since_(Clock::now()) {
  rows_.push_back({"everything else", Compute::f32});
}

void Profile::settle() {
  const Clock::time_point now = Clock::now();
  rows_[current_].seconds += std::chrono::duration<double>(now - since_).count();
  since_ = now;
}

size_t Profile::enter(const char* kind, Compute compute) {
  settle();
  const size_t before = current_;
  current_ = find(rows_, kind, compute);
  return before;
}

void Profile::resume(size_t row) {
  settle();
  current_ = row;
}

Profile* Profile::counted() {
  return counted_;
}

Profile::Counting::Counting(Profile* profile) : before_(std::exchange(counted_, profile)) {}

Profile::Counting::~Counting() {
  counted_ = before_;
}

bool Profile::enabled() {
  return enabled_.load(std::memory_order_relaxed);
}

void Profile::enable(bool on) {
  enabled_ = on;
}

void Profile::add(Profile& finished) {
  finished.settle();
  const std::lock_guard<std::mutex> lock(mutex);
  for (const Row& row : finished.rows_) {
    Row& sum = total[find(total, row.kind, row.compute)];
    sum.seconds += row.seconds;
    sum.operations += row.operations;
    sum.bytes += row.bytes;
  }
}

std::vector<Profile::Row> Profile::take() {
  const std::lock_guard<std::mutex> lock(mutex);
  std::vector<Row> rows = std::exchange(total, {});
  std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.seconds > b.seconds; });
  return rows;
}

}  // namespace nd
