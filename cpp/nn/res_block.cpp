#include "nn/res_block.h"

#include <utility>

#include "nn/backend.h"

namespace nd {

ResBlock::ResBlock(Loader& loader, const std::string& prefix, const ResBlockOptions& options) {
  const auto [in, out, groups, eps, time_width, role, wide] = options;
  norm1_ = loader.group_norm(prefix + ".norm1", in, groups, eps, wide);
  norm2_ = loader.group_norm(prefix + ".norm2", out, groups, eps, wide);
  Conv2dOptions convolution;
  convolution.role = role;
  convolution.wide_output = wide;  // what it convolves is normalized
  // The second one's, too: the next block or transformer begins with a normalization.
  convolution.feeds_group_norm = true;
  conv1_ = loader.conv2d(prefix + ".conv1", in, out, convolution);
  conv2_ = loader.conv2d(prefix + ".conv2", out, out, convolution);
  if (in != out) {
    Conv2dOptions pointwise = Conv2dOptions::pointwise();
    pointwise.role = Role::shortcut;
    pointwise.wide_input = pointwise.wide_output = wide;
    shortcut_ = loader.conv2d(prefix + ".conv_shortcut", in, out, pointwise);
  }
  if (time_width > 0) {
    LinearOptions projection;
    projection.role = Role::time_embedding;
    const OncePerImage rare(loader);  // the shifts of each timestep are cached
    time_ = loader.linear(prefix + ".time_emb_proj", time_width, out, projection);
  }
}

namespace {

Epilogue shifted_by(const TimeShift* time) {
  Epilogue epilogue;
  if (time) {
    epilogue.image_bias = time->values;
    epilogue.image_bias_channel = time->first_channel;
  }
  return epilogue;
}

}  // namespace

Tensor ResBlock::first(ForwardContext& ctx, const Tensor& x, const TimeShift* time) const {
  return conv1_->forward(ctx, x, norm1_.get(), shifted_by(time));
}

Tensor ResBlock::second(ForwardContext& ctx, const Tensor& hidden, const Tensor& residual) const {
  Epilogue epilogue;
  epilogue.residual = &residual;
  return conv2_->forward(ctx, hidden, norm2_.get(), epilogue);
}

Tensor ResBlock::forward(ForwardContext& ctx, const Tensor& x, const TimeShift* time) const {
  const Tensor hidden = first(ctx, x, time);
  if (!shortcut_) return second(ctx, hidden, x);
  const Tensor shortcut = shortcut_->forward(ctx, x);
  return second(ctx, hidden, shortcut);
}

Tensor ResBlock::forward(ForwardContext& ctx, Tensor&& x, const TimeShift* time) const {
  const Tensor hidden = first(ctx, x, time);
  // Neither the shortcut nor the result needs memory beside x's: at the autoencoder's largest level that
  // saves 134 MB.
  Tensor residual = std::move(x);
  if (shortcut_) residual = shortcut_->forward_last(ctx, std::move(residual));
  return conv2_->forward_onto(ctx, hidden, norm2_.get(), std::move(residual));
}

Tensor ResBlock::forward(ForwardContext& ctx, JoinedTensor&& x, const TimeShift* time) const {
  // Without a shortcut the residual is x, which has to be one tensor.
  if (!shortcut_ || !ctx.backend.reads_joined()) return forward(ctx, x.take_concatenated(ctx), time);
  Tensor residual = shortcut_->forward_joined(ctx, x);
  const Tensor hidden = conv1_->forward_joined_normed(ctx, std::move(x), *norm1_, shifted_by(time));
  return conv2_->forward_onto(ctx, hidden, norm2_.get(), std::move(residual));
}

}  // namespace nd
