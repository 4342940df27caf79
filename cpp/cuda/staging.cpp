#include "cuda/staging.h"

#include <cstring>

namespace nd::cuda {
namespace {

constexpr size_t kAlignment = 64;
constexpr const char* kCannotCopy = "Could not copy between the host and the GPU";

}  // namespace

Staging::Staging(const Driver& driver, StreamHandle stream) : driver_(driver), stream_(stream) {
  void* memory = nullptr;
  // How much memory can be pinned is the system's decision; it is not what limits us.
  if (driver.host_allocate(&memory, kBytes, 0) == kSuccess)
    memory_ = static_cast<uint8_t*>(memory);
  else
    pageable_ = std::make_unique<uint8_t[]>(kBytes);
  for (EventHandle& event : events_) {
    const Result made = driver.event_create(&event, kNoTiming);
    if (made == kSuccess) continue;
    release();
    check(driver, made, kCannotCopy);
  }
}

void Staging::release() noexcept {
  // A lost context keeps none of these.
  for (EventHandle event : events_)
    if (event) driver_.event_destroy(event);
  if (memory_) driver_.host_release(memory_);
}

uint8_t* Staging::reserve(size_t bytes) {
  if (bytes > kPart) {
    large_.resize(std::max(bytes, large_.size()));
    return large_.data();
  }
  if (bytes > kPart - used_) {
    record();
    current_ ^= 1;
    used_ = 0;
    wait(current_);
  }
  uint8_t* result = parts() + static_cast<size_t>(current_) * kPart + used_;
  used_ = std::min(kPart, used_ + (bytes + kAlignment - 1) / kAlignment * kAlignment);
  return result;
}

void Staging::send(Address to, const uint8_t* from, size_t bytes) {
  check(driver_, driver_.copy_to_device(to.value, from, bytes, stream_), kCannotCopy);
}

void Staging::upload(Address to, const void* from, size_t bytes) {
  upload(to, bytes, [from](uint8_t* part, size_t at, size_t count) {
    std::memcpy(part, static_cast<const uint8_t*>(from) + at, count);
  });
}

const uint8_t* Staging::receive(Address from, size_t bytes) {
  uint8_t* part = reserve(bytes);
  check(driver_, driver_.copy_to_host(part, from.value, bytes, stream_), kCannotCopy);
  record();
  return part;
}

void Staging::download(void* to, Address from, size_t bytes) {
  download(from, bytes, [to](const uint8_t* part, size_t at, size_t count) {
    std::memcpy(static_cast<uint8_t*>(to) + at, part, count);
  });
}

void Staging::record() {
  check(driver_, driver_.event_record(events_[current_], stream_), kCannotCopy);
  recorded_[current_] = true;
}

void Staging::wait(int part) {
  if (!recorded_[part]) return;
  check(driver_, driver_.event_synchronize(events_[part]), "The GPU failed");
  recorded_[part] = false;
}

}  // namespace nd::cuda
