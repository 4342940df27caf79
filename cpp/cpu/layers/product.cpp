#include "cpu/layers/product.h"

#include <algorithm>

namespace nd::cpu {

namespace {

// A product is cut into about kTasks tasks, but a task has at least kMinRows rows: it streams a whole panel
// of weights, which a few rows do not pay for. Expanding a panel of int4 takes as long as multiplying ten
// rows by it, so that tasks are fewer and longer.
constexpr int64_t kTasks = 64, kMinRows = 192;
constexpr int64_t kInt4Tasks = 32, kMinInt4Rows = 384;
// Where the weights are smaller than the activations, a task has so few rows that they and their results stay
// in the caches while the tasks of all panels follow one another. float32 rows are too long for this.
constexpr int64_t kFewRows = 48;
constexpr int64_t kRowMultiple = 24;  // of the height of every table's register tile

}  // namespace

ProductTasks::ProductTasks(const ProductShape& shape) : rows_(shape.rows), panels_(shape.panels) {
  weights_are_smaller_ =
      shape.reduced && !shape.int4 && panels_ * shape.panel_bytes < rows_ * shape.pixel_bytes;
  const int64_t tasks = shape.int4 ? kInt4Tasks : kTasks, min_rows = shape.int4 ? kMinInt4Rows : kMinRows;
  const int64_t max_rows =
      weights_are_smaller_ ? kFewRows : std::max(min_rows, (rows_ * panels_ + tasks - 1) / tasks);
  rows_each_ = piece_length(rows_, max_rows, kRowMultiple);
  row_pieces_ = (rows_ + rows_each_ - 1) / rows_each_;
}

// Consecutive tasks share what all threads should fetch once: the rows if the weights are smaller, else a
// panel.
ProductTasks::Task ProductTasks::operator[](int64_t index) const {
  const int64_t panel = weights_are_smaller_ ? index % panels_ : index / row_pieces_;
  const int64_t first = (weights_are_smaller_ ? index / panels_ : index % row_pieces_) * rows_each_;
  return {panel, first, std::min(rows_, first + rows_each_)};
}

void count_product(Context& ctx, const PackedMatrix& weights, int64_t rows) {
  if (ctx.profile)
    ctx.profile->count(2.0 * static_cast<double>(rows) * static_cast<double>(weights.n() * weights.k()));
}

void run_product(Context& ctx, const Panels& weights, const ProductInput& input, const GemmEpilogue& epilogue,
                 int64_t plane) {
  const PackedMatrix& matrix = weights.matrix();
  count_product(ctx, matrix, input.rows);
  if (ctx.measuring()) return;
  const ReducedGemm* reduced = matrix.reduced();
  const std::vector<KGroup> groups = matrix.format().window_groups(matrix.inner(), input.row_pixels);
  std::vector<KRun> runs;
  GemmArgs args;
  ReducedGemmArgs reduced_args;
  args.m = reduced_args.m = input.rows;
  args.n = reduced_args.n = matrix.n();
  args.epilogue = reduced_args.epilogue = epilogue;
  args.lhs.row_offset = reduced_args.lhs.row_offset = input.row_offset;
  if (reduced) {
    reduced_args.groups = groups.data();
    reduced_args.group_count = static_cast<int64_t>(groups.size());
    reduced_args.lhs.data = input.pixels->data();
    reduced_args.lhs.pixel_elements = matrix.format().padded;
    reduced_args.lhs.scales = input.pixels->scales();
    reduced_args.lhs.scales_per_pixel = matrix.format().groups();
    reduced_args.rhs = {weights.data(plane), matrix.panel_bytes()};
  } else {
    for (const KGroup& group : groups) runs.push_back({group.offset, group.length});
    args.k = matrix.k();
    args.lhs.data = input.pixels ? reinterpret_cast<const float*>(input.pixels->data()) : input.data;
    args.lhs.ld = input.ld;
    args.lhs.runs = runs.data();
    args.lhs.run_count = static_cast<int64_t>(runs.size());
    args.rhs.panels = reinterpret_cast<const float*>(weights.data(plane));
  }

  ProductShape shape;
  shape.rows = input.rows;
  shape.panels = (matrix.n() + ctx.kernels.nr - 1) / ctx.kernels.nr;
  shape.panel_bytes = matrix.panel_bytes();
  shape.pixel_bytes = matrix.format().bytes();
  shape.reduced = reduced != nullptr;
  shape.int4 = weights.are_int4();
  const ProductTasks tasks(shape);
  ctx.parallel(tasks.count(), [&](int64_t index, int) {
    const ProductTasks::Task task = tasks[index];
    if (weights.are_int4()) {
      ReducedGemmArgs expanded = reduced_args;
      expanded.rhs = {weights.expand(task.panel), 0};  // 0: every panel index finds the one that was expanded
      reduced->gemm(expanded, task.first, task.end, task.panel, task.panel + 1);
    } else if (reduced) {
      reduced->gemm(reduced_args, task.first, task.end, task.panel, task.panel + 1);
    } else {
      ctx.kernels.gemm(args, task.first, task.end, task.panel, task.panel + 1);
    }
  });
}

}  // namespace nd::cpu
