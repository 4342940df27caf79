#include "cpu/layers/token_merge.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/error.h"
#include "nn/token_merge.h"

namespace nd::cpu {
namespace {

constexpr int64_t kSourceRows = 48;  // sources that a task compares with all destinations
constexpr int64_t kColumns = 1024;   // destinations at a time, so that their similarities stay in the cache
constexpr int64_t kTokensPerTask = 128;

int64_t tasks(int64_t count, int64_t each) {
  return (count + each - 1) / each;
}

/// The inverse of the length of a vector of c features; 0 if it has none that is finite in float32.
float inverse_length(const float* x, int64_t c) {
  double sum = 0;
  for (int64_t j = 0; j < c; ++j) sum += static_cast<double>(x[j]) * x[j];
  const double inverse = 1.0 / std::sqrt(sum);
  return inverse <= std::numeric_limits<float>::max() ? static_cast<float>(inverse) : 0.0f;
}

}  // namespace

/// The bipartite graph: positions of sources and destinations in an image, and the best edge of each source.
struct TokenMerge::Matches {
  std::vector<int32_t> source, destination;
  Scratch<float> similarity;  // [n][sources]
  Scratch<int32_t> best;      // [n][sources] index of the destination

  static std::vector<int32_t> positions(int64_t h, int64_t w, bool of_destinations) {
    std::vector<int32_t> list;
    for (int64_t y = 0; y < h; ++y) {
      for (int64_t x = 0; x < w; ++x) {
        const bool whole = y / kMergeWindow < h / kMergeWindow && x / kMergeWindow < w / kMergeWindow;
        const bool destination = whole && y % kMergeWindow == 0 && x % kMergeWindow == 0;
        if (destination == of_destinations) list.push_back(static_cast<int32_t>(y * w + x));
      }
    }
    return list;
  }

  Matches(Context& ctx, int64_t n, int64_t h, int64_t w)
      : similarity(ctx, n * (h * w - merge_destinations(h, w))),
        best(ctx, n * (h * w - merge_destinations(h, w))) {
    if (ctx.measuring()) return;  // the sizes may exceed all memory
    source = positions(h, w, false);
    destination = positions(h, w, true);
  }
};

TokenMerge::TokenMerge(Context& ctx, const Tensor& x, double ratio)
    : images_(x.n),
      pixels_(x.pixels()),
      merged_(merged_tokens(x.h, x.w, ratio)),
      tokens_(x.pixels() - merged_),
      row_(ctx, x.rows()),
      begin_(ctx, x.n * (tokens_ + 1)),
      member_(ctx, x.rows()) {
  if (!ctx.measuring() && x.pixels() > std::numeric_limits<int32_t>::max())
    throw Error(ErrorCode::out_of_memory, "Too many tokens to merge");
  const Matches matches(ctx, x.n, x.h, x.w);
  match(ctx, x, matches);
  assign_rows(ctx, matches);
}

/// Finds the most similar destination of each source: all cosines are one matrix product, of which only the
/// highest of each row is kept.
void TokenMerge::match(Context& ctx, const Tensor& x, const Matches& matches) const {
  const int64_t c = x.c, nr = ctx.kernels.nr;
  const int64_t columns = merge_destinations(x.h, x.w), sources = x.pixels() - columns,
                panels = tasks(columns, nr);
  const Scratch<float> unit(ctx, x.n * panels * nr * c);  // destinations of length 1
  const Scratch<float> packed(ctx, x.n * panels * nr * c);
  ctx.parallel(x.n * panels, [&](int64_t task, int) {
    const int64_t image = task / panels, first = task % panels * nr, count = std::min(nr, columns - first);
    std::vector<const float*> rows;
    for (int64_t i = 0; i < count; ++i) {
      const float* from =
          data(x) + (image * x.pixels() + matches.destination[static_cast<size_t>(first + i)]) * c;
      float* to = unit.data() + (task * nr + i) * c;
      const float factor = inverse_length(from, c);
      for (int64_t j = 0; j < c; ++j) to[j] = from[j] * factor;
      rows.push_back(to);
    }
    ctx.kernels.pack_panel(rows.data(), count, c, packed.data() + task * nr * c);
  });

  std::vector<int64_t> offset;
  for (const int32_t token : matches.source) offset.push_back(token * c);
  const KRun whole{0, c};
  const int64_t blocks = tasks(sources, kSourceRows), wide = std::max(nr, kColumns / nr * nr);
  ctx.parallel(x.n * blocks, [&](int64_t task, int) {
    const int64_t image = task / blocks, first = task % blocks * kSourceRows;
    GemmArgs args;
    args.m = std::min(kSourceRows, sources - first);
    args.k = c;
    args.lhs.data = data(x) + image * x.pixels() * c;
    args.lhs.row_offset = offset.data() + first;
    args.lhs.runs = &whole;
    args.lhs.run_count = 1;
    args.epilogue.c = thread_scratch(static_cast<size_t>(kSourceRows * wide));
    args.epilogue.ldc = wide;
    float highest[kSourceRows];
    int32_t best[kSourceRows] = {};
    std::fill_n(highest, kSourceRows, -std::numeric_limits<float>::infinity());
    for (int64_t begin = 0; begin < columns; begin += wide) {
      args.n = std::min(wide, columns - begin);
      args.rhs.panels = packed.data() + (image * panels * nr + begin) * c;
      ctx.kernels.gemm(args, 0, args.m, 0, tasks(args.n, nr));
      for (int64_t i = 0; i < args.m; ++i) {
        const float* similar = args.epilogue.c + i * wide;
        for (int64_t j = 0; j < args.n; ++j) {
          if (!(similar[j] > highest[i])) continue;  // NaN is not
          highest[i] = similar[j];
          best[i] = static_cast<int32_t>(begin + j);
        }
      }
    }
    for (int64_t i = 0; i < args.m; ++i) {
      const int64_t at = image * sources + first + i;
      matches.similarity.data()[at] = highest[i] * inverse_length(args.lhs.data + args.lhs.row_offset[i], c);
      matches.best.data()[at] = best[i];
    }
  });
}

/// Merges the most similar sources into their destinations, and assigns a row to each token.
void TokenMerge::assign_rows(Context& ctx, const Matches& matches) const {
  const int64_t pixels = pixels_, sources = static_cast<int64_t>(matches.source.size());
  ctx.parallel(images_, [&](int64_t image, int) {
    const float* similarity = matches.similarity.data() + image * sources;
    const int32_t* best = matches.best.data() + image * sources;
    std::vector<int32_t> order(static_cast<size_t>(sources));
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
    // The most similar first, NaN last, equal ones in the order of the tokens.
    std::nth_element(order.begin(), order.begin() + (merged_ - 1), order.end(), [&](int32_t a, int32_t b) {
      const float x = similarity[a], y = similarity[b];
      if (std::isnan(x) != std::isnan(y)) return std::isnan(y);
      return x > y || (!(x < y) && a < b);
    });

    int32_t* row = row_.data() + image * pixels;
    std::fill_n(row, pixels, 0);
    for (int64_t i = 0; i < merged_; ++i)
      row[matches.source[static_cast<size_t>(order[static_cast<size_t>(i)])]] = -1;
    int32_t next = 0;
    for (int64_t token = 0; token < pixels; ++token)
      if (row[token] == 0) row[token] = next++;
    for (int64_t i = 0; i < merged_; ++i) {
      const int32_t source = order[static_cast<size_t>(i)];
      row[matches.source[static_cast<size_t>(source)]] =
          row[matches.destination[static_cast<size_t>(best[source])]];
    }

    int32_t* begin = begin_.data() + image * (tokens_ + 1);
    std::fill_n(begin, tokens_ + 1, 0);
    for (int64_t token = 0; token < pixels; ++token) ++begin[row[token] + 1];
    for (int64_t i = 0; i < tokens_; ++i) begin[i + 1] += begin[i];
    std::vector<int32_t> end(begin, begin + tokens_);
    for (int64_t token = 0; token < pixels; ++token)
      member_.data()[image * pixels + end[static_cast<size_t>(row[token])]++] = static_cast<int32_t>(token);
  });
}

Tensor TokenMerge::merge(ForwardContext& base, const Tensor& x) const {
  Context& ctx = Context::of(base);
  Tensor out(ctx, x.n, 1, tokens_, x.c);
  const int64_t blocks = tasks(tokens_, kTokensPerTask), c = x.c;
  ctx.parallel(x.n * blocks, [&](int64_t task, int) {
    const int64_t image = task / blocks, first = task % blocks * kTokensPerTask;
    const int32_t* begin = begin_.data() + image * (tokens_ + 1);
    const int32_t* member = member_.data() + image * x.pixels();
    for (int64_t i = first; i < std::min(first + kTokensPerTask, tokens_); ++i) {
      float* to = data(out) + (image * tokens_ + i) * c;
      const auto token = [&](int32_t m) { return data(x) + (image * x.pixels() + member[m]) * c; };
      std::copy_n(token(begin[i]), c, to);
      const int32_t count = begin[i + 1] - begin[i];
      if (count == 1) continue;
      for (int32_t m = begin[i] + 1; m < begin[i + 1]; ++m) ctx.kernels.add(to, token(m), c, to);
      const float share = 1.0f / static_cast<float>(count);
      for (int64_t j = 0; j < c; ++j) to[j] *= share;
    }
  });
  return out;
}

void TokenMerge::unmerge_onto(ForwardContext& base, const Tensor& merged, const Tensor& x) const {
  Context& ctx = Context::of(base);
  const int64_t blocks = tasks(x.rows(), kTokensPerTask), c = x.c;
  ctx.parallel(blocks, [&](int64_t task, int) {
    const int64_t end = std::min((task + 1) * kTokensPerTask, x.rows());
    for (int64_t token = task * kTokensPerTask; token < end; ++token) {
      const int64_t from = token / x.pixels() * tokens_ + row_.data()[token];
      float* to = data(x) + token * c;
      ctx.kernels.add(to, data(merged) + from * c, c, to);
    }
  });
}

}  // namespace nd::cpu
