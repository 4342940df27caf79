#include "cuda/layers/token_merge.h"

#include "nn/token_merge.h"

namespace nd::cuda {

TokenMerge::TokenMerge(Context& ctx, const Tensor& x, double ratio)
    : merged_(merged_tokens(x.h, x.w, ratio)),
      tokens_(x.pixels() - merged_),
      row_(ctx, x.rows()),
      kept_(ctx, x.n * tokens_) {
  const int64_t sources = x.pixels() - merge_destinations(x.h, x.w);
  const Scratch<float> inverse(ctx, x.rows()), similarity(ctx, x.rows());
  const Scratch<int32_t> best(ctx, x.rows());
  ctx.launch(Kernel::merge_lengths, {pieces_of(x.rows(), kMoveThreads / 32)},
             MergeLengthsArgs{data(x), inverse.data(), narrow(x.rows()), narrow(x.c)});
  ctx.launch(Kernel::merge_match, {pieces_of(sources, kMergeTile), x.n},
             MergeMatchArgs{data(x), inverse.data(), similarity.data(), best.data(), narrow(x.h), narrow(x.w),
                            narrow(x.c)});
  ctx.launch(Kernel::merge_assign, {x.n},
             MergeAssignArgs{similarity.data(), best.data(), row_.data(), kept_.data(), narrow(x.h),
                             narrow(x.w), narrow(merged_)});
}

Tensor TokenMerge::merge(ForwardContext& base, const Tensor& x) const {
  constexpr int64_t kChannels = 256;  // of a warp
  Context& ctx = Context::of(base);
  Tensor out(ctx, x.n, 1, tokens_, x.c);
  ctx.launch(Kernel::merge_means, {pieces_of(tokens_, kMoveThreads / 32), pieces_of(x.c, kChannels), x.n},
             MergeMeansArgs{data(x), row_.data(), kept_.data(), data(out), narrow(x.h), narrow(x.w),
                            narrow(x.c), narrow(tokens_)});
  return out;
}

void TokenMerge::unmerge_onto(ForwardContext& base, const Tensor& merged, const Tensor& x) const {
  Context& ctx = Context::of(base);
  ctx.launch(Kernel::unmerge, {pieces_of(x.size() / (x.c % 8 == 0 ? 8 : 1), kMoveThreads)},
             UnmergeArgs{data(merged), row_.data(), data(x), narrow(x.rows()), narrow(x.pixels()),
                         narrow(tokens_), narrow(x.c)});
}

}  // namespace nd::cuda
