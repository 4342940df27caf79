#include "core/placement.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>

namespace nd {
namespace {

/// For each block those that it meets.
std::vector<std::vector<size_t>> meetings(const std::vector<Placement>& blocks) {
  std::vector<std::vector<size_t>> result(blocks.size());
  std::vector<size_t> live;
  for (size_t i = 0; i < blocks.size(); ++i) {
    live.erase(std::remove_if(live.begin(), live.end(),
                              [&](size_t other) { return !blocks[other].meets(blocks[i]); }),
               live.end());
    for (const size_t other : live) {
      result[i].push_back(other);
      result[other].push_back(i);
    }
    live.push_back(i);
  }
  return result;
}

/// The offset of the smallest gap with room for `bytes`, or the end. `taken`: offsets and bytes.
size_t find_gap(std::vector<std::pair<size_t, size_t>>& taken, size_t bytes) {
  std::sort(taken.begin(), taken.end());
  size_t best = 0, smallest = Placement::kNever, end = 0;
  for (const auto& [offset, length] : taken) {
    if (offset > end && offset - end >= bytes && offset - end < smallest) {
      best = end;
      smallest = offset - end;
    }
    end = std::max(end, offset + length);
  }
  return smallest == Placement::kNever ? end : best;
}

}  // namespace

size_t least_bytes(const std::vector<Placement>& blocks) {
  std::vector<std::pair<size_t, size_t>> ends;  // a heap, the first end on top
  size_t sum = 0, most = 0;
  for (const Placement& block : blocks) {
    while (!ends.empty() && ends.front().first <= block.begin) {
      sum -= ends.front().second;
      std::pop_heap(ends.begin(), ends.end(), std::greater<>());
      ends.pop_back();
    }
    ends.emplace_back(block.end, block.bytes);
    std::push_heap(ends.begin(), ends.end(), std::greater<>());
    most = std::max(most, sum += block.bytes);
  }
  return most;
}

size_t place_by_size(std::vector<Placement>& blocks) {
  const std::vector<std::vector<size_t>> meets = meetings(blocks);
  std::vector<size_t> order(blocks.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return blocks[a].bytes > blocks[b].bytes; });
  std::vector<bool> placed(blocks.size());
  std::vector<std::pair<size_t, size_t>> taken;
  size_t total = 0;
  for (const size_t i : order) {
    taken.clear();
    for (const size_t other : meets[i])
      if (placed[other]) taken.emplace_back(blocks[other].offset, blocks[other].bytes);
    blocks[i].offset = find_gap(taken, blocks[i].bytes);
    placed[i] = true;
    total = std::max(total, blocks[i].offset + blocks[i].bytes);
  }
  return total;
}

}  // namespace nd
