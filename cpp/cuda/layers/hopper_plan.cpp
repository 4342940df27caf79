// How Hopper's kernels cut a product, and what they are told of its tensors.
#include "cuda/context.h"
#include "cuda/layers/product_plan.h"
#include "cuda/layers/tensor_map.h"

namespace nd::cuda {
namespace {

constexpr int kFirst = static_cast<int>(Kernel::product_hopper_128);  // of the kernels, in the tiles' order

int64_t chunks_per_tap(const ProductArgs& args) {
  return pieces_of(args.c, 8);
}

int64_t taps_of(const ProductArgs& args) {
  return args.chunks / chunks_per_tap(args);
}

/// The boxes that cover a grid with the fewest pixels outside of it; of those, the widest.
HopperBoxes boxes_of(bool flat, int64_t images, int64_t height, int64_t width) {
  HopperBoxes best{};
  int64_t fewest = 0;
  for (int64_t w = kHopperRows; w >= 1; w /= 2)
    for (int64_t h = kHopperRows / w; h >= 1; h /= 2) {
      const int64_t n = kHopperRows / w / h;
      const int64_t boxes_w = pieces_of(width, w), boxes_h = pieces_of(height, h),
                    boxes_n = pieces_of(images, n);
      const int64_t count = boxes_w * boxes_h * boxes_n;
      if (fewest && count >= fewest) continue;
      fewest = count;
      best = {flat,      narrow(images),  narrow(height),  narrow(width),  narrow(h),
              narrow(w), narrow(boxes_h), narrow(boxes_w), narrow(boxes_n)};
    }
  return best;
}

}  // namespace

bool suits_hopper(const ProductArgs& args) {
  // A step has channels of one tensor.
  const bool whole_steps = !args.second || (args.c - args.second_c) % kHopperK == 0;
  return args.stride == 1 && args.c % 8 == 0 && whole_steps && args.chunks == args.weights_chunks;
}

ProductPlan plan_hopper_tile(const ProductArgs& args, bool pointwise, int tile, int32_t splits) {
  const int64_t steps = taps_of(args) * pieces_of(args.c, kHopperK);
  ProductPlan plan{};
  plan.kernel = static_cast<Kernel>(kFirst + tile);
  plan.split_steps = static_cast<int32_t>(pieces_of(steps, splits));
  plan.splits = static_cast<int32_t>(pieces_of(steps, plan.split_steps));
  const int64_t height = args.grid_pixels / args.grid_w;
  plan.boxes = pointwise ? boxes_of(true, 1, 1, args.m)
                         : boxes_of(false, args.m / args.grid_pixels, height, args.grid_w);
  plan.grid = {int64_t{plan.boxes.boxes_w} * plan.boxes.boxes_h * plan.boxes.boxes_n,
               pieces_of(args.o, kHopperTiles[tile].columns), int64_t{args.parities} * plan.splits};
  return plan;
}

HopperProductArgs hopper_arguments(const Driver& driver, const ProductArgs& args, const ProductPlan& plan) {
  const HopperBoxes& boxes = plan.boxes;
  const int64_t taps = taps_of(args), width = boxes.flat ? args.m : args.w, height = boxes.flat ? 1 : args.h;
  const int64_t columns = kHopperTiles[static_cast<int>(plan.kernel) - kFirst].columns;
  const int64_t c = args.c, first_c = c - args.second_c, row = taps * c;
  HopperProductArgs h{};
  const auto pixels = [&](const half* x, int64_t channels) {
    return tensor_map<4>(driver, x, {channels, width, height, boxes.images},
                         {channels, width * channels, height * width * channels},
                         {kHopperK, boxes.box_w, boxes.box_h, kHopperRows / boxes.box_w / boxes.box_h});
  };
  h.x = pixels(args.x, first_c);
  if (args.second) h.second = pixels(args.second, args.second_c);
  h.weights = tensor_map<3>(driver, args.weights, {c, taps, int64_t{args.parities} * args.o}, {c, row},
                            {kHopperK, 1, columns});
  h.product = args;
  h.images = boxes.images, h.grid_h = boxes.grid_h, h.grid_w = boxes.grid_w;
  h.box_h = boxes.box_h, h.box_w = boxes.box_w;
  h.boxes_h = boxes.boxes_h, h.boxes_w = boxes.boxes_w;
  h.steps_per_tap = static_cast<int32_t>(pieces_of(args.c, kHopperK));
  h.steps = static_cast<int32_t>(taps) * h.steps_per_tap;
  h.first_steps = static_cast<int32_t>(pieces_of(first_c, kHopperK));
  return h;
}

}  // namespace nd::cuda
