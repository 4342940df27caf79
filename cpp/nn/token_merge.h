// How many tokens token merging merges, which backends and tests agree on.
#pragma once
#include <algorithm>
#include <cstdint>

namespace nd {

/// Side of a window, in tokens, that has one destination: its upper left token. All others are sources.
constexpr int64_t kMergeWindow = 2;

/// Destinations of an image. Rows and columns that do not fill a window have sources only.
inline int64_t merge_destinations(int64_t h, int64_t w) {
  return h / kMergeWindow * (w / kMergeWindow);
}

/// How many sources of an image are merged: ⌊ratio · h · w⌋, or all of them if that is more than there are.
inline int64_t merged_tokens(int64_t h, int64_t w, double ratio) {
  const int64_t destinations = merge_destinations(h, w);
  if (destinations == 0) return 0;
  return std::min(static_cast<int64_t>(ratio * static_cast<double>(h * w)), h * w - destinations);
}

}  // namespace nd
