#include "cuda/spare_blocks.h"

#include <iterator>

namespace nd::cuda {

size_t SpareBlocks::bytes() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return bytes_;
}

SpareBlocks::Entry SpareBlocks::drop(Entry entry, std::vector<Address>& dropped) {
  const auto [bytes, address] = entry->first;
  dropped.push_back({address});
  bytes_ -= bytes;
  return blocks_.erase(entry);
}

Address SpareBlocks::take(size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = blocks_.lower_bound({bytes, 0});
  if (found == blocks_.end() || found->first.first != bytes) return {};
  const Address block{found->first.second};
  bytes_ -= bytes;
  blocks_.erase(found);
  return block;
}

std::vector<Address> SpareBlocks::put(Address block, size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (bytes > most_) return {block};
  std::vector<Address> dropped;
  dropped.reserve(blocks_.size() + 1);  // from here on nothing is allocated that could fail but the entry
  blocks_.insert({{bytes, block.value}, ++puts_});
  bytes_ += bytes;
  for (auto entry = blocks_.begin(); entry != blocks_.end();)
    entry = puts_ - entry->second > kMaxAge ? drop(entry, dropped) : std::next(entry);
  while (bytes_ > most_) drop(std::prev(blocks_.end()), dropped);
  return dropped;
}

std::vector<Address> SpareBlocks::take_all() {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<Address> dropped;
  dropped.reserve(blocks_.size());
  for (auto entry = blocks_.begin(); entry != blocks_.end();) entry = drop(entry, dropped);
  return dropped;
}

}  // namespace nd::cuda
