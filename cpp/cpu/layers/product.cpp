#include "cpu/layers/product.h"

#include <algorithm>

namespace nd::cpu {

namespace {

// A product is cut into about this many tasks, whatever the number of threads, but no task has fewer rows
// than kMinRows: each streams a whole weight panel, which must pay. Where the weights are the smaller part,
// a task has kFewRows, which stay in the caches with their results while all panels pass.
constexpr int64_t kTasks = 64;
constexpr int64_t kMinRows = 192, kFewRows = 48;
constexpr int64_t kExpandedTasks = 32, kMinExpandedRows = 384;  // where a task also expands its panel
constexpr int64_t kRowMultiple = 24;                            // of every table's register tile

}  // namespace

void run_product(Context& ctx, const Panels& weights, const ProductInput& input, const GemmEpilogue& epilogue,
                 int64_t plane) {
  if (ctx.measuring()) return;
  const PackedMatrix& matrix = weights.matrix();
  const ReducedGemm* low = matrix.low();
  const std::vector<KGroup> groups = matrix.groups(input.row_pixels);
  std::vector<KRun> runs;
  GemmArgs args;
  ReducedGemmArgs low_args;
  args.m = low_args.m = input.rows;
  args.n = low_args.n = matrix.n();
  args.epilogue = low_args.epilogue = epilogue;
  args.lhs.row_offset = low_args.lhs.row_offset = input.row_offset;
  if (low) {
    low_args.groups = groups.data();
    low_args.group_count = static_cast<int64_t>(groups.size());
    low_args.lhs.data = input.pixels->data();
    low_args.lhs.pixel_elements = matrix.padded_channels();
    low_args.lhs.scales = input.pixels->scales();
    low_args.lhs.scales_per_pixel = matrix.groups_per_pixel();
    low_args.rhs = {weights.data(plane), matrix.panel_bytes()};
  } else {
    for (const KGroup& group : groups) runs.push_back({group.offset, group.length});
    args.k = matrix.k();
    args.lhs.data = input.pixels ? reinterpret_cast<const float*>(input.pixels->data()) : input.data;
    args.lhs.ld = input.ld;
    args.lhs.runs = runs.data();
    args.lhs.run_count = static_cast<int64_t>(runs.size());
    args.rhs.panels = reinterpret_cast<const float*>(weights.data(plane));
  }
  if (ctx.profile) ctx.profile->count(2.0 * static_cast<double>(input.rows * matrix.n() * matrix.k()));
  const int64_t panels = (matrix.n() + ctx.kernels.nr - 1) / ctx.kernels.nr;
  // Expanding a panel takes as long as multiplying ten rows with it.
  const int64_t least = weights.expands() ? kMinExpandedRows : kMinRows;
  const int64_t tasks = weights.expands() ? kExpandedTasks : kTasks;
  // float32 rows are too long for it.
  const bool small =
      low && !weights.expands() &&
      panels * matrix.panel_bytes() < input.rows * matrix.padded_channels() * low->element_bytes;
  const int64_t longest = small ? kFewRows : std::max(least, (input.rows * panels + tasks - 1) / tasks);
  const int64_t rows = piece_length(input.rows, longest, kRowMultiple),
                chunks = (input.rows + rows - 1) / rows;
  ctx.parallel(chunks * panels, [&](int64_t task, int) {
    // Neighbouring tasks share what is fetched once for all threads: the rows of small weights, else a panel.
    const int64_t panel = small ? task % panels : task / chunks;
    const int64_t first = (small ? task / panels : task % chunks) * rows,
                  last = std::min(input.rows, first + rows);
    if (weights.expands()) {
      // One panel, wherever the product looks for it.
      ReducedGemmArgs one = low_args;
      one.rhs = {weights.expanded(panel), 0};
      low->gemm(one, first, last, panel, panel + 1);
    } else if (low) {
      low->gemm(low_args, first, last, panel, panel + 1);
    } else {
      ctx.kernels.gemm(args, first, last, panel, panel + 1);
    }
  });
}

}  // namespace nd::cpu
