// Where the blocks of a forward's working memory lie, chosen when it is known for how long each is used.
#pragma once
#include <cstddef>
#include <limits>
#include <vector>

namespace nd {

/// A block of memory that is used from one moment to another. Moments are counted.
struct Placement {
  static constexpr size_t kNever = std::numeric_limits<size_t>::max();

  size_t bytes = 0, begin = 0, end = kNever, offset = 0;

  bool meets(const Placement& other) const { return begin < other.end && other.begin < end; }
};

/// The most bytes that are used at one moment: no choice of offsets needs less. Blocks in the order of their
/// beginnings.
size_t least_bytes(const std::vector<Placement>& blocks);

/// Chooses offsets so that no two blocks that are used at the same moment overlap, and returns what all need.
/// The largest blocks come first, each into the smallest gap between those that it meets (Pisarchyk and Lee
/// 2020, "Efficient Memory Management for Deep Neural Net Inference", greedy by size). That is often less
/// than what blocks need that are placed as they come, but not always. Blocks in the order of their
/// beginnings.
size_t place_by_size(std::vector<Placement>& blocks);

}  // namespace nd
