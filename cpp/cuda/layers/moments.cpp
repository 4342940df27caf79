#include "cuda/layers/moments.h"

namespace nd::cuda {

TensorMoments::TensorMoments(Context& ctx, const Tensor& x, int64_t capacity)
    : ctx_(ctx),
      watch_{x.address(), static_cast<size_t>(x.size()) * ctx.backend.element_bytes()},
      capacity_(capacity),
      moments_(ctx, x.n * capacity * 3 * x.c) {
  ctx_.add(watch_);
}

TensorMoments& TensorMoments::beside(Context& ctx, const Tensor& x, int64_t capacity) {
  if (const TensorMoments* known = of(x); !known || known->capacity() != capacity) {
    x.keep(nullptr);  // its memory may be that of the new ones
    x.keep(std::make_unique<TensorMoments>(ctx, x, capacity));
  }
  return *of(x);
}

void plan_moments(ProductPlan& plan, const ProductArgs& args) {
  constexpr int64_t kManyPixels = 1024, kFewRows = 32, kManyRows = 128;
  constexpr int64_t kMoreTiles = 8;  // an eighth
  const int64_t pixels = args.grid_pixels, images = args.m / pixels;
  if (plan.splits > 1) {
    // Small images need small pieces, or there are few blocks.
    plan.moment_pieces = narrow(pieces_of(pixels, pixels < kManyPixels ? kFewRows : kManyRows));
    return;
  }
  if (is_hopper(plan.kernel)) {
    const HopperBoxes& boxes = plan.boxes;
    const bool whole = boxes.flat ? images == 1 || pixels % kHopperRows == 0
                                  : images == 1 || boxes.box_h * boxes.box_w == kHopperRows;
    if (!whole) return;
    plan.moment_pieces = narrow(plan.grid.x / images * args.parities);
    return;
  }
  const int64_t tiles = pieces_of(pixels, plan.tile_rows);
  if (images > 1 && pixels % plan.tile_rows != 0) {
    if (images * tiles - plan.grid.x > plan.grid.x / kMoreTiles) return;
    plan.span = args.grid_pixels;
    plan.grid.x = images * tiles;
  }
  plan.moment_pieces = narrow(tiles * args.parities);
}

MeasuredInput::MeasuredInput(Context& ctx, const Tensor& x) {
  TensorMoments* beside = TensorMoments::of(x);
  const int64_t pieces = pieces_of(x.pixels(), kMomentRows);
  if (!beside) own_ = std::make_unique<Scratch<float>>(ctx, x.n * pieces * 3 * x.c);
  float* moments = beside ? beside->data() : own_->data();
  max_pieces_ = beside ? beside->capacity() : pieces;
  input_ = {data(x), moments, narrow(x.c), narrow(pieces)};
  if (beside && beside->pieces()) {
    input_.pieces = narrow(beside->pieces());
    return;
  }
  // No tile has more than kMomentRows pixels, so that there is room for these.
  const MomentsArgs args{data(x), moments, narrow(x.pixels()), narrow(x.c), narrow(pieces)};
  ctx.launch(Kernel::channel_moments, {pieces, pieces_of(x.c, kMomentChannels), x.n}, args);
  if (beside) beside->taken(pieces);
}

}  // namespace nd::cuda
