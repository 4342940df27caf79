#include "cuda/spare_blocks.h"

#include <iterator>

namespace nd::cuda {

size_t SpareBlocks::bytes() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return bytes_;
}

Address SpareBlocks::remove(Entry entry) {
  const auto [bytes, address] = entry->first;
  bytes_ -= bytes;
  blocks_.erase(entry);
  return {address};
}

Address SpareBlocks::take(size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = blocks_.lower_bound({bytes, 0});
  if (found == blocks_.end() || found->first.first != bytes) return {};
  return remove(found);
}

Address SpareBlocks::take_any() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return blocks_.empty() ? Address{} : remove(std::prev(blocks_.end()));
}

std::vector<Address> SpareBlocks::put(Address block, size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (bytes > most_) return {block};
  std::vector<Address> dropped;
  dropped.reserve(blocks_.size() + 1);  // from here on nothing is allocated that could fail but the entry
  blocks_.insert({{bytes, block.value}, ++puts_});
  bytes_ += bytes;
  for (auto entry = blocks_.begin(); entry != blocks_.end();) {
    const auto next = std::next(entry);
    if (puts_ - entry->second > kMaxAge) dropped.push_back(remove(entry));
    entry = next;
  }
  while (bytes_ > most_) dropped.push_back(remove(std::prev(blocks_.end())));
  return dropped;
}

}  // namespace nd::cuda
