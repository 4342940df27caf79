// One forward pass of the UNet, whole or only its shallow layers.
#include <algorithm>
#include <limits>
#include <utility>

#include "unet/unet.h"

namespace nd {

/// What all layers of a forward need to know.
struct Unet::Pass {
  const Input& input;
  Feature shifts;                // [n][1][1][time_channels_]
  std::vector<int64_t> offsets;  // packed_offsets() of the context
};

template <class X>
Feature Unet::forward_layer(Run& run, const Pass& pass, const Layer& layer, X&& x) const {
  const TimeShift shift{pass.shifts.data() + layer.time_offset, pass.shifts.c};
  Feature out = layer.block.forward(run, std::forward<X>(x), &shift);
  PackedContext context = pass.input.context;
  context.offset = pass.offsets[static_cast<size_t>(layer.number)];
  const double merging = layer.merges ? pass.input.options.token_merging : 0;
  for (const SpatialTransformer& attention : layer.attention)
    out = attention.forward(run, std::move(out), context, merging);
  return out;
}

/// What the way down leaves for the way up, in that order; the first `wanted` of it.
std::vector<Feature> Unet::go_down(Run& run, const Pass& pass, size_t wanted) const {
  const Input& input = pass.input;
  std::vector<Feature> skips;
  {
    const Feature latents = from_planar(run, input.latents, input.n, config_.in_channels, input.h, input.w);
    skips.push_back(conv_in_.forward(run, latents));
  }
  for (const Down& down : down_) {
    for (const Layer& layer : down.layers)
      if (skips.size() < wanted) skips.push_back(forward_layer(run, pass, layer, skips.back()));
    for (const Conv2d& downsample : down.downsample)
      if (skips.size() < wanted) skips.push_back(downsample.forward(run, skips.back()));
  }
  return skips;
}

/// The way up from x (none: from the last skip twice, there being no middle block). In a shallow pass all but
/// the last layers are left out, and what they would have given is what was kept.
Feature Unet::go_up(Run& run, const Pass& pass, Feature x, std::vector<Feature> skips) const {
  const UnetOptions& options = pass.input.options;
  int64_t left = up_layers_;
  for (const Up& up : up_) {
    for (const Layer& layer : up.layers) {
      if (options.deep && left == options.depth) {
        if (pass.input.shallow)
          x = options.deep->view();
        else
          options.deep->keep(run, x);
      }
      if (!pass.input.shallow || left <= options.depth) {
        Feature both = concat(run, x ? x : skips.back(), skips.back());
        x.release();
        skips.pop_back();
        x = forward_layer(run, pass, layer, std::move(both));
      }
      --left;
    }
    for (const Upsample& upsample : up.upsample)
      if (x) x = upsample.forward(run, x, skips.back().h, skips.back().w);
  }
  return x;
}

Feature Unet::forward(Run& run, const Input& input) const {
  Pass pass{input, Feature(run, input.n, 1, 1, time_channels_), packed_offsets(input.context.length)};
  for (int64_t i = 0; i < input.n && !run.measuring(); ++i)
    std::copy_n(times_.find(input.timesteps[i]), time_channels_, pass.shifts.data() + i * time_channels_);

  const size_t wanted =
      input.shallow ? static_cast<size_t>(input.options.depth) : std::numeric_limits<size_t>::max();
  std::vector<Feature> skips = go_down(run, pass, wanted);
  Feature x;
  if (!input.shallow) {
    // The first block's input is also the last skip, so it is read in place.
    for (const Layer& layer : middle_)
      x = x ? forward_layer(run, pass, layer, std::move(x)) : forward_layer(run, pass, layer, skips.back());
  }
  x = go_up(run, pass, std::move(x), std::move(skips));
  return conv_out_.forward(run, x, &norm_out_);
}

}  // namespace nd
