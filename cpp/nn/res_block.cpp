#include "nn/res_block.h"

namespace nd {

ResBlock::ResBlock(Loader& loader, const std::string& prefix, int64_t in, int64_t out, int64_t groups,
                   float eps, int64_t time_width, const Conv2dOptions& convolution)
    : norm1_(loader, prefix + ".norm1", in, groups, eps),
      norm2_(loader, prefix + ".norm2", out, groups, eps),
      conv1_(loader, prefix + ".conv1", in, out, convolution),
      conv2_(loader, prefix + ".conv2", out, out, convolution),
      has_shortcut_(in != out),
      narrowing_(out < in) {
  if (has_shortcut_) {
    Conv2dOptions pointwise;
    pointwise.kernel = 1;
    pointwise.pad_before = pointwise.pad_after = 0;
    // It carries the whole signal, not a correction to it, and is a small share of the work.
    pointwise.sensitive = true;
    shortcut_ = Conv2d(loader, prefix + ".conv_shortcut", in, out, pointwise);
  }
  if (time_width > 0) {
    LinearOptions sensitive;
    sensitive.sensitive = true;
    const Rarely rarely(loader);  // the shifts of a timestep are kept
    time_ = Linear(loader, prefix + ".time_emb_proj", time_width, out, sensitive);
  }
}

Feature ResBlock::first(Run& run, const Feature& x, const TimeShift* time) const {
  if (!time) return conv1_.forward(run, x, &norm1_);
  Fuse fuse;
  fuse.image_bias = time->values;
  fuse.image_bias_stride = time->stride;
  return conv1_.forward(run, x, &norm1_, fuse);
}

Feature ResBlock::second(Run& run, const Feature& hidden, const Feature& residual) const {
  Fuse fuse;
  fuse.residual = &residual;
  return conv2_.forward(run, hidden, &norm2_, fuse);
}

Feature ResBlock::forward(Run& run, const Feature& x, const TimeShift* time) const {
  const Feature hidden = first(run, x, time);
  if (!has_shortcut_) return second(run, hidden, x);
  const Feature shortcut = shortcut_.forward(run, x);
  return second(run, hidden, shortcut);
}

Feature ResBlock::forward(Run& run, Feature&& x, const TimeShift* time) const {
  const Feature hidden = first(run, x, time);
  // Neither the shortcut nor the result needs memory beside x's: at the autoencoder's largest level that
  // spares 134 MB.
  Feature residual = std::move(x);
  if (has_shortcut_)
    residual =
        narrowing_ ? shortcut_.forward_in_place(run, std::move(residual)) : shortcut_.forward(run, residual);
  return conv2_.forward_onto(run, hidden, &norm2_, std::move(residual));
}

}  // namespace nd
