#include "vae/chain.h"

#include <algorithm>
#include <utility>

namespace nd {

void Chain::add(const ResBlock& block) {
  const ResBlock::Parts parts = block.parts();
  Link first{parts.conv1, parts.norm1}, second{parts.conv2, parts.norm2};
  first.opens_residual = true;
  first.shortcut = parts.shortcut;
  second.closes_residual = true;
  links_.push_back(first);
  links_.push_back(second);
}

void Chain::end_level() {
  levels_.emplace_back(levels_.empty() ? 0 : levels_.back().second, links_.size());
}

bool Chain::normalizes() const {
  return std::any_of(links_.begin(), links_.end(), [](const Link& link) { return link.norm != nullptr; });
}

std::vector<ImageShape> Chain::shapes(ImageShape input) const {
  std::vector<ImageShape> result{input};
  for (const Link& link : links_) {
    const Conv2dOptions& options = link.conv->options();
    const int64_t padding = options.pad_before + options.pad_after - options.kernel;
    const auto length = [&](int64_t side) {
      return options.upsample ? 2 * side : (side + padding) / options.stride + 1;
    };
    const ImageShape& last = result.back();
    result.push_back({length(last.h), length(last.w), link.conv->out()});
  }
  return result;
}

Activations Chain::run(ForwardContext& ctx, Activations in, size_t first, size_t last, const Tensor* factors,
                       bool keep_open) const {
  Tensor x = std::move(in.x), residual = std::move(in.residual);
  const Tensor none;
  for (size_t i = first; i < last; ++i) {
    const Link& link = links_[i];
    const Tensor own = link.norm && !factors ? link.norm->affine(ctx, x) : Tensor();
    const Tensor& normed = factors ? factors[i] : own;
    if (link.closes_residual) {
      x = link.conv->forward_onto_with(ctx, x, normed, std::exchange(residual, Tensor()), link.relu);
      continue;
    }
    Epilogue epilogue;
    if (link.relu) epilogue.activation = Activation::relu;
    const bool closed =
        std::any_of(links_.begin() + static_cast<int64_t>(i), links_.begin() + static_cast<int64_t>(last),
                    [](const Link& later) { return later.closes_residual; });
    if (!link.opens_residual || !(closed || keep_open)) {
      x = link.conv->forward_with(ctx, x, normed, epilogue);
      continue;
    }
    Conv2d::Branches branches =
        link.conv->forward_branches(ctx, std::move(x), normed, link.shortcut, epilogue);
    x = std::move(branches.hidden);
    residual = std::move(branches.residual);
  }
  return {std::move(x), std::move(residual)};
}

Rows Chain::input_rows(const std::vector<ImageShape>& shapes, size_t first, size_t last, Rows out) const {
  for (size_t i = last; i-- > first;) {
    const Conv2dOptions& options = links_[i].conv->options();
    if (options.upsample) {
      // Row y of the doubled image is row y / 2; the kernel sees one above and one below.
      out.begin = out.begin > 0 ? (out.begin - 1) / 2 : 0;
      out.end = out.end / 2 + 1;
    } else {
      out.begin = out.begin * options.stride - options.pad_before;
      out.end = (out.end - 1) * options.stride - options.pad_before + options.kernel;
    }
    out.begin = std::max<int64_t>(0, out.begin) / 2 * 2;
    out.end = std::min(out.end, shapes[i].h);
  }
  return out;
}

int64_t Chain::output_row(size_t first, size_t last, int64_t row) const {
  for (size_t i = first; i < last; ++i) {
    if (links_[i].upsamples()) row *= 2;
    if (links_[i].downsamples()) row /= 2;
  }
  return row;
}

}  // namespace nd
